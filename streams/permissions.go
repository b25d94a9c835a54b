package streams

import (
	"fmt"
	"slices"
	"strings"
)

// Role is a user of the broker: a stage, a person with the causeway command,
// or another service that subscribes to what is true.
type Role string

// The roles.
const (
	RoleIngest     Role = "ingest"
	RoleTransform  Role = "transform"
	RoleSink       Role = "sink"
	RoleSubscriber Role = "subscriber"
	RoleConsole    Role = "console"
	RoleOperator   Role = "operator"
)

// Roles returns every role.
func Roles() []Role {
	return []Role{RoleIngest, RoleTransform, RoleSink, RoleSubscriber, RoleConsole, RoleOperator}
}

// access is what a role may do: subjects that it publishes on, streams whose
// consumers it reads by, streams whose messages it looks up, and buckets.
type access struct {
	publish       []string
	consume, look []string
	read, write   []string // buckets
}

var roles = map[Role]access{
	RoleIngest: {
		publish: append(rawVia("notice", "fetch", "poll", "backfill", "reconcile"), "dead.ingest.>", "dead.hydrate.>"),
		consume: []string{RAW}, look: []string{RAW, CANONICAL},
		read: []string{IDENTITY}, write: []string{CURSORS, TOKENS, BUDGETS, TENANTS, COUNTS},
	},
	RoleTransform: {
		// Dates that rules wait for are looked for among the last states.
		publish: append(rawVia("relink", "rule"), "canonical.>", "dead.transform.>", "dead.tags.>", "dead.children.>", "dead.rules.>", "$JS.API.CONSUMER.DELETE.CANONICAL.*",
			// RAW is counted by a consumer that goes when it has.
			"gaps.>", "$JS.API.CONSUMER.DELETE.RAW.*", "$JS.API.CONSUMER.DELETE.GAPS.*"),
		consume: []string{RAW, CANONICAL, GAPS}, look: []string{RAW, CANONICAL, GAPS},
		write: []string{IDENTITY, CURSORS, COUNTS},
	},
	RoleSink: {
		// How far the others have come says whether the backfill was seen, and
		// what has succeeded since it was a dead letter.
		publish: append(rawVia("intent", "writeback", "fetch"), "effects.>", "dead.sink.>", "dead.sink-ghl.>", "dead.sink-novi.>", "dead.actions.>",
			"$JS.API.CONSUMER.INFO.RAW.*", "$JS.API.STREAM.PURGE.DEAD", "$JS.API.CONSUMER.DELETE.DEAD.*"),
		consume: []string{CANONICAL, DEAD}, look: []string{CANONICAL, EFFECTS, RAW, DEAD},
		read: []string{CURSORS, TENANTS}, write: []string{TOKENS, BUDGETS, HOLDS, COUNTS},
	},
	RoleSubscriber: {consume: []string{CANONICAL}, look: []string{CANONICAL}},
	RoleConsole: {
		// What it publishes is a person's word: it wakes, keeps, and hands over
		// again what a dead letter came from.
		publish: append(rawVia("notice", "fetch", "poll", "backfill", "reconcile", "writeback", "wake", "keep"), "dead.>", "audit.>",
			"$JS.API.CONSUMER.LIST.*", "$JS.API.STREAM.PURGE.DEAD"),
		consume: []string{RAW, CANONICAL, EFFECTS, DEAD, AUDIT}, look: []string{RAW, CANONICAL, EFFECTS, DEAD, AUDIT},
		read: []string{IDENTITY, BUDGETS}, write: []string{CURSORS, HOLDS},
	},
}

func rawVia(vias ...string) []string {
	out := make([]string, 0, len(vias))
	for _, via := range vias {
		out = append(out, "raw.*.*.*.*."+via)
	}
	return out
}

// Permissions returns the subjects that a role has to be allowed to publish
// on, and those to subscribe to; everything else can be denied. Only the
// operator may create or change streams: the others find them there. A role
// that reads a stream by consumers may make consumers on it, since a tenant's
// are made when the tenant is; it may not publish there for that.
func Permissions(r Role) (publish, subscribe []string) {
	subscribe = []string{"_INBOX.>"}
	if r == RoleOperator {
		return []string{">"}, []string{">"}
	}
	a := roles[r]
	publish = append(slices.Clone(a.publish), "$JS.API.STREAM.INFO.*")
	api := func(format string, stream string) { publish = append(publish, fmt.Sprintf(format, stream)) }
	look := func(stream string) {
		api("$JS.API.DIRECT.GET.%s", stream)
		api("$JS.API.DIRECT.GET.%s.>", stream)
		api("$JS.API.STREAM.MSG.GET.%s", stream)
	}
	consume := func(stream string) {
		api("$JS.API.CONSUMER.CREATE.%s.>", stream)
		api("$JS.API.CONSUMER.INFO.%s.*", stream)
		api("$JS.API.CONSUMER.MSG.NEXT.%s.*", stream)
		api("$JS.ACK.%s.>", stream)
	}
	for _, s := range a.look {
		look(s)
	}
	for _, s := range a.consume {
		consume(s)
	}
	for _, b := range append(slices.Clone(a.read), a.write...) {
		look("KV_" + b)
		api("$JS.API.CONSUMER.CREATE.%s.>", "KV_"+b) // keys are listed by an ordered consumer
		api("$JS.API.CONSUMER.DELETE.%s.*", "KV_"+b)
	}
	if len(a.read)+len(a.write) > 0 {
		publish = append(publish, "$JS.FC.>") // and its flow control
	}
	for _, b := range a.write {
		publish = append(publish, "$KV."+b+".>")
	}
	slices.Sort(publish)
	return slices.Compact(publish), subscribe
}

// PermissionsConfig renders the permissions of all roles but the operator's
// for a server's configuration: a variable for each.
func PermissionsConfig() string {
	var b strings.Builder
	list := func(key string, subjects []string) {
		fmt.Fprintf(&b, "  %s: {allow: [\n", key)
		for _, s := range subjects {
			fmt.Fprintf(&b, "    %q\n", s)
		}
		b.WriteString("  ]}\n")
	}
	b.WriteString("# Generated by `causeway streams permissions`; do not edit.\n")
	for _, r := range Roles() {
		if r == RoleOperator {
			continue
		}
		publish, subscribe := Permissions(r)
		fmt.Fprintf(&b, "\n%s: {\n", strings.ToUpper(string(r)))
		list("publish", publish)
		list("subscribe", subscribe)
		b.WriteString("}\n")
	}
	return b.String()
}
