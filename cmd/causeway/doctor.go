package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/circuit"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/dead"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/internal/probe"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/gap"
)

type doctorCmd struct {
	configured
	Offline bool `help:"Don't call the two systems: look at the configuration, the broker and the stages only."`
	JSON    bool `name:"json" help:"Print one JSON object a line."`
}

// symptom is one thing that was looked at, and, if it isn't well, the cure.
type symptom struct {
	Check  string           `json:"check"`
	Tenant canonical.Tenant `json:"tenant,omitempty"`
	Result probe.Result     `json:"result"`
	Detail string           `json:"detail,omitempty"`
	Cure   string           `json:"cure,omitempty"`
}

func (c *doctorCmd) Run(ctx context.Context) error {
	found := c.examine(ctx)
	if c.JSON {
		if err := printLines(os.Stdout, found); err != nil {
			return err
		}
	} else if err := printSymptoms(os.Stdout, found); err != nil {
		return err
	}
	for _, s := range found {
		if s.Result == probe.Bad {
			return errors.New("something would not work: see the cures")
		}
	}
	return nil
}

// examine looks at one thing after the other, as far as what it needs is there.
func (c *doctorCmd) examine(ctx context.Context) []symptom {
	file, tenants, err := c.load()
	found := configuration(err)
	if err != nil {
		return found
	}
	found = append(found, secrets(file, tenants)...)
	found = append(found, limits(tenants)...)
	conn, err := bus.Connect(ctx, process.Broker(file, "causeway doctor"))
	found = append(found, broker(file.NATS.URL, err))
	if err == nil {
		defer conn.Close()
		found = append(found, stages(ctx, conn, file, tenants)...)
	}
	if c.Offline {
		return found
	}
	leased, err := leases(ctx, file)
	if err == nil {
		defer leased.Close()
	}
	look := &probeCmd{Config: c.Config, Share: 0.05}
	for _, t := range tenants {
		report, err := look.probe(ctx, file, leased, t, nil)
		if err != nil {
			found = append(found, symptom{"systems", t.Name, probe.Bad, err.Error(), "put right what it names, and look again"})
			continue
		}
		found = append(found, systems(report)...)
	}
	return found
}

func configuration(err error) []symptom {
	if err == nil {
		return []symptom{{Check: "configuration", Result: probe.OK}}
	}
	cure := "change the line that it names; `causeway schema config` has every key"
	if strings.Contains(err.Error(), "novi.create") {
		cure = "say novi.create: never, until you know which GHL contacts are to become Novi members, each of whom is a QuickBooks customer"
	}
	return []symptom{{Check: "configuration", Result: probe.Bad, Detail: err.Error(), Cure: cure}}
}

// secrets looks whether every reference leads to something.
func secrets(file *config.File, tenants []config.Tenant) []symptom {
	out := []symptom{}
	try := func(tenant canonical.Tenant, key string, s config.Secret) {
		if _, err := file.Resolve(s); err != nil {
			out = append(out, symptom{"secrets", tenant, probe.Bad, key + ": " + err.Error(), "set that variable, or write that file, for the user that the stages run as"})
		}
	}
	for i, k := range file.TokenKeys {
		try("", fmt.Sprintf("token_keys[%d]", i), k)
	}
	if file.GHLApp != nil {
		try("", "ghl_app.client_secret", file.GHLApp.ClientSecret)
	}
	for _, t := range tenants {
		if t.GHL != nil {
			try(t.Name, "ghl.token", t.GHL.Token)
			try(t.Name, "ghl.token_next", t.GHL.TokenNext)
		}
		if t.Novi != nil {
			try(t.Name, "novi.key", t.Novi.Key)
			try(t.Name, "novi.key_next", t.Novi.KeyNext)
			try(t.Name, "novi.webhook_token", t.Novi.WebhookToken)
			try(t.Name, "novi.webhook_secret", t.Novi.WebhookSecret)
		}
		for _, r := range t.Automations() {
			for _, a := range r.Outside() {
				try(t.Name, "rules, "+r.Name, config.Secret(a.Webhook.Secret))
			}
		}
	}
	if len(out) == 0 {
		out = append(out, symptom{Check: "secrets", Result: probe.OK})
	}
	return out
}

// documented are the systems' call limits (dossiers GHL §2, Novi §3.5).
var documented = map[canonical.System]struct {
	second float64
	daily  int
}{canonical.GHL: {10, 200_000}, canonical.Novi: {10, 100_000}}

// limits looks whether a budget is above what a system allows.
func limits(tenants []config.Tenant) []symptom {
	out := []symptom{}
	check := func(t config.Tenant, system canonical.System, l config.Limits) {
		rate := -1.0
		for _, w := range l.Windows {
			if r := float64(w.Calls) / w.Per.Seconds(); rate < 0 || r < rate {
				rate = r
			}
		}
		if d := documented[system]; rate > d.second || l.Daily > d.daily {
			out = append(out, symptom{"call limits", t.Name, probe.Warn, fmt.Sprintf("%s.limits allows %.0f calls a second and %d a day; %.0f and %d are documented", system, rate, l.Daily, d.second, d.daily),
				"take limits out of the file, unless the system has granted you more"})
		}
	}
	for _, t := range tenants {
		if t.GHL != nil {
			check(t, canonical.GHL, t.GHL.Limits)
		}
		if t.Novi != nil {
			check(t, canonical.Novi, t.Novi.Limits)
		}
	}
	if len(out) == 0 {
		out = append(out, symptom{Check: "call limits", Result: probe.OK})
	}
	return out
}

func broker(url string, err error) symptom {
	if err == nil {
		return symptom{Check: "broker", Result: probe.OK}
	}
	return symptom{Check: "broker", Result: probe.Bad, Detail: err.Error(), Cure: "start nats-server 2.12 or newer with JetStream at " + url + ", or set nats.url and the credentials"}
}

// stages looks at what the broker holds.
func stages(ctx context.Context, conn *bus.Conn, file *config.File, tenants []config.Tenant) []symptom {
	var out []symptom
	failed := func(check string, err error) {
		out = append(out, symptom{check, "", probe.Bad, err.Error(), "give the operator's credentials to this command, or look whether the broker is well"})
	}
	differences, err := streams.Diff(ctx, conn.JetStream())
	if err != nil {
		failed("streams", err)
		return out
	}
	if out = append(out, topology(differences)...); out[len(out)-1].Result == probe.Bad {
		return out
	}
	if status, err := streams.Status(ctx, conn.JetStream()); err != nil {
		failed("consumers", err)
	} else {
		out = append(out, consumers(status, tenants)...)
	}
	if letters, err := dead.Find(ctx, conn, dead.Filter{}); err != nil {
		failed("dead letters", err)
	} else {
		out = append(out, deadLetters(letters))
	}
	if held, err := hold.List(ctx, conn); err != nil {
		failed("held deletes", err)
	} else {
		out = append(out, heldDeletes(held)...)
	}
	if open, err := gap.Open(ctx, conn); err != nil {
		failed("gaps", err)
	} else {
		out = append(out, openGaps(open)...)
	}
	if read, err := readings(ctx, conn); err != nil {
		failed("backfill", err)
	} else {
		out = append(out, backfills(read, time.Now())...)
	}
	if open, err := openCircuits(ctx, conn, time.Now()); err != nil {
		failed("circuits", err)
	} else {
		out = append(out, circuits(open)...)
	}
	hooks, err := webhooks(ctx, conn, file, tenants)
	if err != nil {
		failed("webhooks", err)
	}
	return append(out, hooks...)
}

func topology(differences []streams.Difference) []symptom {
	if len(differences) == 0 {
		return []symptom{{Check: "streams", Result: probe.OK}}
	}
	result, cure := probe.Warn, "causeway streams apply --dry-run, and then without it"
	var text []string
	for _, d := range differences {
		text = append(text, d.String())
		switch {
		case d.Newer:
			cure = "bring this program up to the version that the stages have"
		case d.Field == "" || d.Field == "subjects":
			result = probe.Bad
		}
	}
	return []symptom{{"streams", "", result, strings.Join(text, "; "), cure}}
}

// consumers looks whether somebody works on what waits.
func consumers(status []streams.StreamStatus, tenants []config.Tenant) []symptom {
	have := map[string]streams.ConsumerStatus{}
	for _, s := range status {
		for _, c := range s.Consumers {
			have[c.Durable] = c
		}
	}
	want := map[string]string{streams.Transform().Durable: "transform", streams.Tags().Durable: "transform", streams.Children().Durable: "transform"}
	for _, t := range tenants {
		want[streams.Hydrate(t.Name).Durable] = "ingest"
		if t.GHL != nil {
			want[streams.Sink(canonical.GHL, t.Name).Durable] = "sink"
		}
		if t.Novi != nil {
			want[streams.Sink(canonical.Novi, t.Name).Durable] = "sink"
		}
		if len(t.Automations()) > 0 {
			want[streams.Rules(t.Name).Durable] = "transform"
		}
	}
	idle := map[string][]string{}
	for durable, stage := range want {
		c, there := have[durable]
		if !there {
			idle[stage] = append(idle[stage], durable+" has never run")
		} else if c.Pending > 0 && !c.Pulling && c.Unacked == 0 {
			idle[stage] = append(idle[stage], fmt.Sprintf("%s: %d wait and nobody asks for them", durable, c.Pending))
		}
	}
	var out []symptom
	for _, stage := range []string{"ingest", "transform", "sink"} {
		if names := idle[stage]; len(names) > 0 {
			out = append(out, symptom{"consumers", "", probe.Bad, strings.Join(names, "; "), "start " + stage + " with this configuration; its log says why if it ends"})
		}
	}
	if len(out) == 0 {
		out = append(out, symptom{Check: "consumers", Result: probe.OK})
	}
	return out
}

func deadLetters(letters []dead.Letter) symptom {
	if len(letters) == 0 {
		return symptom{Check: "dead letters", Result: probe.OK}
	}
	classes := map[string]int{}
	for _, l := range letters {
		classes[string(l.Class)]++
	}
	return symptom{"dead letters", "", probe.Warn, fmt.Sprintf("%d wait for a person, the oldest since %s", len(letters), letters[0].At.Local().Format(time.DateTime)) + byClass(classes),
		"causeway dead list; put right the reason, and causeway dead redrive"}
}

func byClass(classes map[string]int) string {
	var out []string
	for _, c := range []string{"data", "credentials", "mapping", "defect", "outage"} {
		if classes[c] > 0 {
			out = append(out, fmt.Sprintf("%d %s", classes[c], c))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, ", ")
}

func heldDeletes(held []hold.Tenant) []symptom {
	var out []symptom
	for _, h := range held {
		if h.Held {
			out = append(out, symptom{"held deletes", h.Tenant, probe.Bad, fmt.Sprintf("%d deletes wait for a person since %s", h.Waiting, h.Since.Local().Format(time.DateTime)),
				"causeway hold show " + string(h.Tenant) + ", and causeway hold release if they are right"})
		}
	}
	return out
}

func openGaps(open []envelope.Gap) []symptom {
	var out []symptom
	for _, g := range open {
		s := symptom{"gap", g.Tenant, probe.Warn, fmt.Sprintf("RAW has lost what it held of %s %ss (%s) since %s; everything is read anew", g.System, g.Kind, strings.ReplaceAll(string(g.Reason), "_", " "), g.Detected.Local().Format(time.DateTime)),
			"nothing, if an ingest runs: the reconcile " + g.Sweep + " closes it"}
		if g.Trouble != "" {
			s.Result, s.Detail, s.Cure = probe.Bad, s.Detail+"; "+g.Trouble, "docs/OPERATIONS.md, RAW has a gap"
		}
		out = append(out, s)
	}
	return out
}

func backfills(read []reading, now time.Time) []symptom {
	var out []symptom
	for _, r := range read {
		if !r.walk.Backfilled && !r.walk.At.IsZero() && now.Sub(r.walk.At) > still {
			out = append(out, symptom{"backfill", r.tenant, probe.Bad, fmt.Sprintf("%s: %s; nothing is written there before it is complete", r.system, backfill(r.walk, now)),
				"look at ingest's log: a refused key, a missing scope or a wrong path stops it"})
		}
	}
	return out
}

func circuits(open []openCircuit) []symptom {
	var out []symptom
	for _, c := range open {
		s := symptom{"circuits", c.tenant, probe.Bad, fmt.Sprintf("%s does not call %s since %s: %s", c.stage, c.system, c.Since.Local().Format(time.DateTime), c.Reason), "nothing, if it comes back: the work waits and goes on"}
		if c.Cause == circuit.Refused {
			s.Cure = "put a new credential where the configuration refers to; it is read anew for every call"
		}
		out = append(out, s)
	}
	return out
}

// webhooks looks whether any was ever heard where some are meant to come.
func webhooks(ctx context.Context, conn *bus.Conn, file *config.File, tenants []config.Tenant) ([]symptom, error) {
	if file.Ingest.Listen == "" {
		return []symptom{{Check: "webhooks", Result: probe.Note, Detail: "ingest.listen is empty: changes are seen by polls only"}}, nil
	}
	var out []symptom
	for _, t := range tenants {
		for system, meant := range map[canonical.System]bool{canonical.GHL: t.GHL != nil, canonical.Novi: t.Novi != nil && t.Novi.WebhookToken != ""} {
			if !meant {
				continue
			}
			_, err := conn.Last(ctx, streams.RAW, streams.Notices(system, t.Name))
			switch {
			case errors.Is(err, bus.ErrNotFound):
				out = append(out, symptom{"webhooks", t.Name, probe.Warn, fmt.Sprintf("none of %s has arrived in what RAW holds", system), "register the front door's address there (docs/connect-" + string(system) +
					".md); if it is, causeway_webhooks_total of ingest says whether their signature is refused"})
			case err != nil:
				return out, err
			}
		}
	}
	if len(out) == 0 {
		out = append(out, symptom{Check: "webhooks", Result: probe.OK})
	}
	return out, nil
}

// cures are what helps against what a probe finds, by the check's name.
var cures = map[string]string{
	"location": "give a token of this very location, with the scopes of docs/connect-ghl.md, or correct ghl.location", "contacts": "give the token the scope that it names",
	"duplicates": "switch off duplicated contacts in the location's settings (Business Profile)", "members": "correct novi.base_url, the key, or novi.paths.members",
	"clock": "set this machine's clock by NTP; if theirs is off, set mapping.clock_skew", "webhooks": "register the webhook in Novi (docs/connect-novi.md)",
	"activity types": "make an activity type with the Task flag in Novi", "one member": "give the API key the right to see whole members",
}

// systems turns what a probe found into symptoms.
func systems(r probe.Report) []symptom {
	var out []symptom
	for _, c := range r.Checks {
		if c.Result == probe.OK || c.Result == probe.Note {
			continue
		}
		cure := cures[c.Name]
		switch {
		case strings.Contains(c.Detail, ": wait"): // calls are used up, and nothing is known of the rest
			c.Result, cure = probe.Note, "look again later, when there are calls left"
		case cure != "":
		case strings.HasPrefix(c.Name, "custom field "), strings.HasPrefix(c.Name, "field "):
			cure = "make that field, or change the mapping: causeway probe suggests the line"
		default:
			cure = "give the credential what it names; causeway probe looks again"
		}
		out = append(out, symptom{string(c.System) + ": " + c.Name, r.Tenant, c.Result, c.Detail, cure})
	}
	if len(out) == 0 {
		out = append(out, symptom{Check: "systems", Tenant: r.Tenant, Result: probe.OK})
	}
	return out
}

func printSymptoms(out io.Writer, found []symptom) error {
	mark := map[probe.Result]string{probe.OK: "ok  ", probe.Note: "note", probe.Warn: "warn", probe.Bad: "BAD "}
	for _, s := range found {
		line := mark[s.Result] + "  " + s.Check
		if s.Tenant != "" {
			line += " of " + string(s.Tenant)
		}
		if s.Detail != "" {
			line += ": " + s.Detail
		}
		if s.Cure != "" {
			line += "\n      → " + s.Cure
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}
