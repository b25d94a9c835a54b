package streams

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Revision counts the changes of the topology. An older binary never undoes
// what a newer revision has set.
const Revision = 6

const day = 24 * time.Hour

// Streams is the table of streams.
func Streams() []jetstream.StreamConfig {
	common := func(c jetstream.StreamConfig) jetstream.StreamConfig {
		c.Storage = jetstream.FileStorage
		c.Retention = jetstream.LimitsPolicy
		c.AllowDirect = true                    // states are read by the last message of a subject
		c.Compression = jetstream.S2Compression // whole records, version after version: very alike
		c.Replicas = 1
		return c
	}
	return []jetstream.StreamConfig{
		common(jetstream.StreamConfig{
			Name: RAW, Subjects: []string{"raw.>"}, Description: "what we saw",
			MaxAge: 30 * day, // a replay reaches that far back
			// GHL repeats a delivery for an hour and more; within ten minutes the
			// server drops the copy, after that the merge does.
			Duplicates: 10 * time.Minute,
		}),
		common(jetstream.StreamConfig{
			Name: CANONICAL, Subjects: []string{"canonical.>"}, Description: "what is true",
			MaxMsgsPerSubject: 64, // enough history to travel in; the last one is the state
			Duplicates:        2 * time.Minute,
		}),
		common(jetstream.StreamConfig{
			Name: EFFECTS, Subjects: []string{"effects.>"}, Description: "what we did about it",
			MaxMsgsPerSubject: 64, // the last one is the sink's record
			Duplicates:        2 * time.Minute,
		}),
		common(jetstream.StreamConfig{
			Name: DEAD, Subjects: []string{"dead.>"}, Description: "what needs a person",
			MaxMsgsPerSubject: 1, // the newest reason is the one to look at
			MaxAge:            90 * day,
			Duplicates:        2 * time.Minute,
		}),
		common(jetstream.StreamConfig{
			Name: AUDIT, Subjects: []string{"audit.>"}, Description: "what people had done",
			MaxAge:     400 * day, // a year's, and time to look at it
			Duplicates: 2 * time.Minute,
		}),
		common(jetstream.StreamConfig{
			Name: GAPS, Subjects: []string{AllGaps}, Description: "what RAW has lost, and what was done about it",
			MaxMsgsPerSubject: 64, // the last one is how it stands
			Duplicates:        2 * time.Minute,
		}),
	}
}

// Buckets is the table of key-value buckets.
func Buckets() []jetstream.KeyValueConfig {
	bucket := func(name, what string) jetstream.KeyValueConfig {
		return jetstream.KeyValueConfig{Bucket: name, Description: what, Storage: jetstream.FileStorage, History: 1, Replicas: 1}
	}
	return []jetstream.KeyValueConfig{
		bucket(IDENTITY, "claims: identity keys, hashed, to canonical ids"),
		bucket(CURSORS, "watermarks of walks"),
		bucket(TOKENS, "oauth tokens, encrypted"),
		bucket(BUDGETS, "leased call budgets"),
		bucket(TENANTS, "what was installed at run time"),
		bucket(HOLDS, "tenants whose deletes are held, and what is held"),
		bucket(COUNTS, "how much was published to RAW and how much of it was found there"),
	}
}

// Config renders c as the server wants it.
func (c Consumer) Config() jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		Durable: c.Durable, FilterSubjects: c.Filters,
		AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckWait: 30 * time.Second,
		// Giving up is our decision, taken earlier, with a dead letter: past a
		// server-side limit a message just stops arriving.
		MaxDeliver:    -1,
		MaxAckPending: 4096,
	}
	if c.New {
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	}
	if c.Pinned {
		cfg.PriorityPolicy = jetstream.PriorityPolicyPinned
		cfg.PriorityGroups = []string{PinnedGroup}
		// The server moves on when the working instance has not pulled for
		// this long; instances pull every 5 s at the latest.
		cfg.PinnedTTL = 8 * time.Second
	}
	return cfg
}
