package streams

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// revisionKey is the metadata key under which a server remembers the revision
// of the topology that an object was last set by.
const revisionKey = "causeway-revision"

// Difference is one field in which the server differs from the table.
type Difference struct {
	Object string `json:"object"`          // "stream RAW", "bucket IDENTITY"
	Field  string `json:"field,omitempty"` // "" if the whole object is missing
	Have   string `json:"have,omitempty"`
	Want   string `json:"want,omitempty"`
	// Destructive says that applying it would drop messages.
	Destructive bool `json:"destructive,omitempty"`
	// Newer says that the server's object was set by a newer revision.
	Newer bool `json:"newer,omitempty"`
}

// String explains the difference in one line.
func (d Difference) String() string {
	switch {
	case d.Newer:
		return fmt.Sprintf("%s: set by revision %s, which is newer than ours (%s); left alone", d.Object, d.Have, d.Want)
	case d.Field == "":
		return d.Object + ": missing"
	case d.Destructive:
		return fmt.Sprintf("%s: %s is %s, want %s (destructive: refused)", d.Object, d.Field, d.Have, d.Want)
	}
	return fmt.Sprintf("%s: %s is %s, want %s", d.Object, d.Field, d.Have, d.Want)
}

// ErrDestructive is returned, wrapped, when applying the table would drop
// messages; nothing was changed then.
var ErrDestructive = errors.New("destructive difference")

// ErrIncompatible is returned, wrapped, by Ensure for a difference that a
// binary can't work with.
var ErrIncompatible = errors.New("incompatible topology")

// Diff compares the server with the table.
func Diff(ctx context.Context, js jetstream.JetStream) ([]Difference, error) {
	var out []Difference
	for _, want := range Streams() {
		s, err := js.Stream(ctx, want.Name)
		if isMissing(err) {
			out = append(out, Difference{Object: "stream " + want.Name})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", want.Name, err)
		}
		out = append(out, compare("stream "+want.Name, s.CachedInfo().Config, want)...)
	}
	for _, want := range Buckets() {
		_, err := js.KeyValue(ctx, want.Bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			out = append(out, Difference{Object: "bucket " + want.Bucket})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", want.Bucket, err)
		}
	}
	return out, nil
}

func isMissing(err error) bool { return errors.Is(err, jetstream.ErrStreamNotFound) }

func compare(object string, have, want jetstream.StreamConfig) []Difference {
	if r, err := strconv.Atoi(have.Metadata[revisionKey]); err == nil && r > Revision {
		return []Difference{{Object: object, Have: strconv.Itoa(r), Want: strconv.Itoa(Revision), Newer: true}}
	}
	var out []Difference
	add := func(field string, have, want any, destructive bool) {
		if !reflect.DeepEqual(have, want) {
			out = append(out, Difference{Object: object, Field: field, Have: fmt.Sprint(have), Want: fmt.Sprint(want), Destructive: destructive})
		}
	}
	// Less room drops what is over it; 0 and -1 mean no limit.
	less := func(have, want int64) bool { return want > 0 && (have <= 0 || want < have) }
	missing := slices.ContainsFunc(have.Subjects, func(s string) bool { return !slices.Contains(want.Subjects, s) })
	add("subjects", have.Subjects, want.Subjects, missing)
	add("description", have.Description, want.Description, false)
	add("retention", have.Retention.String(), want.Retention.String(), true)
	add("storage", have.Storage.String(), want.Storage.String(), true)
	add("max_age", have.MaxAge.String(), want.MaxAge.String(), less(int64(have.MaxAge), int64(want.MaxAge)))
	add("max_msgs_per_subject", max(have.MaxMsgsPerSubject, 0), max(want.MaxMsgsPerSubject, 0), less(have.MaxMsgsPerSubject, want.MaxMsgsPerSubject))
	add("duplicate_window", have.Duplicates.String(), want.Duplicates.String(), false)
	add("compression", have.Compression.String(), want.Compression.String(), false)
	add("allow_direct", have.AllowDirect, want.AllowDirect, false)
	return out
}

// Apply brings the server to the table: it creates what is missing and
// updates what differs, unless dryRun. It returns the differences that it
// found. A destructive one is refused with ErrDestructive before anything is
// changed; what a newer revision has set is left alone.
func Apply(ctx context.Context, js jetstream.JetStream, dryRun bool) ([]Difference, error) {
	diffs, err := Diff(ctx, js)
	if err != nil || dryRun {
		return diffs, err
	}
	touch := map[string]bool{}
	for _, d := range diffs {
		if d.Destructive {
			return diffs, fmt.Errorf("%s: %s: %w", d.Object, d.Field, ErrDestructive)
		}
		touch[d.Object] = !d.Newer
	}
	for _, s := range Streams() {
		if !touch["stream "+s.Name] {
			continue
		}
		// What we don't declare is the operator's: replicas, placement, size.
		if have, err := js.Stream(ctx, s.Name); err == nil {
			was := have.CachedInfo().Config
			s.Replicas, s.Placement, s.MaxBytes = was.Replicas, was.Placement, was.MaxBytes
		}
		s.Metadata = map[string]string{revisionKey: strconv.Itoa(Revision)}
		if _, err := js.CreateOrUpdateStream(ctx, s); err != nil {
			return diffs, fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	for _, b := range Buckets() {
		if !touch["bucket "+b.Bucket] {
			continue
		}
		if _, err := js.CreateKeyValue(ctx, b); err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
			return diffs, fmt.Errorf("bucket %s: %w", b.Bucket, err)
		}
	}
	return diffs, nil
}

// Ensure is what a binary does when it starts: it creates what is missing and
// leaves alone what differs, which it returns for the log. It fails only on a
// difference that it can't work with: subjects that are not all there.
func Ensure(ctx context.Context, js jetstream.JetStream) ([]Difference, error) {
	diffs, err := Diff(ctx, js)
	if err != nil {
		return nil, err
	}
	var left []Difference
	missing := map[string]bool{}
	for _, d := range diffs {
		switch {
		case d.Field == "" && !d.Newer:
			missing[d.Object] = true
		case d.Field == "subjects", d.Field == "retention":
			return diffs, fmt.Errorf("%s; run `causeway streams apply`: %w", d, ErrIncompatible)
		default:
			left = append(left, d)
		}
	}
	for _, s := range Streams() {
		if missing["stream "+s.Name] {
			s.Metadata = map[string]string{revisionKey: strconv.Itoa(Revision)}
			if _, err := js.CreateStream(ctx, s); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				return left, fmt.Errorf("stream %s: %w", s.Name, err)
			}
		}
	}
	for _, b := range Buckets() {
		if missing["bucket "+b.Bucket] {
			if _, err := js.CreateKeyValue(ctx, b); err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
				return left, fmt.Errorf("bucket %s: %w", b.Bucket, err)
			}
		}
	}
	return left, nil
}

// EnsureConsumer creates the durable consumer if it is missing, and adds the
// filters that one that is there lacks; its position is never lost. One that
// has filters which we don't know is an error: it would be handed the wrong
// messages, or a newer binary has set it.
func EnsureConsumer(ctx context.Context, js jetstream.JetStream, c Consumer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := js.CreateConsumer(ctx, c.Stream, c.Config())
	if err == nil {
		return nil
	}
	have, lookErr := js.Consumer(ctx, c.Stream, c.Durable)
	if lookErr != nil {
		return fmt.Errorf("consumer %s: %w", c.Durable, err)
	}
	cfg := have.CachedInfo().Config
	filters := cfg.FilterSubjects
	if cfg.FilterSubject != "" {
		filters = []string{cfg.FilterSubject}
	}
	for _, f := range filters {
		if !slices.ContainsFunc(c.Filters, func(wide string) bool { return covers(wide, f) }) {
			return fmt.Errorf("consumer %s filters %v, want %v; delete it to have it made anew", c.Durable, filters, c.Filters)
		}
	}
	if slices.Equal(slices.Sorted(slices.Values(filters)), slices.Sorted(slices.Values(c.Filters))) {
		return nil
	}
	cfg.FilterSubject, cfg.FilterSubjects = "", c.Filters
	if _, err := js.UpdateConsumer(ctx, c.Stream, cfg); err != nil {
		return fmt.Errorf("consumer %s: add filters: %w", c.Durable, err)
	}
	return nil
}

// covers reports whether all that filter lets through passes wide too: they are
// the same, or wide ends where filter goes on.
func covers(wide, filter string) bool {
	all, open := strings.CutSuffix(wide, ".>")
	return wide == filter || open && strings.HasPrefix(filter, all+".")
}

// Replicate brings every stream and bucket to n replicas, unless dryRun, and
// returns what differed. How many there are is the operator's: neither Apply
// nor Ensure touches it, and what they create has one. The server refuses more
// replicas than the cluster has servers.
func Replicate(ctx context.Context, js jetstream.JetStream, n int, dryRun bool) ([]Difference, error) {
	names := map[string]string{} // object by stream
	for _, s := range Streams() {
		names[s.Name] = "stream " + s.Name
	}
	for _, b := range Buckets() {
		names["KV_"+b.Bucket] = "bucket " + b.Bucket
	}
	var out []Difference
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s, err := js.Stream(ctx, name)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return out, fmt.Errorf("%s: %w", names[name], err)
		}
		cfg := s.CachedInfo().Config
		if cfg.Replicas == n {
			continue
		}
		out = append(out, Difference{Object: names[name], Field: "replicas", Have: strconv.Itoa(cfg.Replicas), Want: strconv.Itoa(n)})
		if dryRun {
			continue
		}
		cfg.Replicas = n
		if _, err := js.UpdateStream(ctx, cfg); err != nil {
			return out, fmt.Errorf("%s: %w", names[name], err)
		}
	}
	return out, nil
}
