package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/history"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

type contactCmd struct {
	Show  contactShowCmd  `cmd:"" help:"Show a contact, a task, a note or an appointment with what each system shows, as it is or as it was."`
	Blame contactBlameCmd `cmd:"" help:"Say where a field has its value from: who, where, when, why, and which answer of which API."`
}

// entity is how a verb is told which one is meant.
type entity struct {
	server
	Tenant canonical.Tenant `help:"Its tenant; not needed unless the e-mail address, or a system's id, is in several." placeholder:"SLUG"`
	JSON   bool             `name:"json" help:"Print JSON. It holds personal data."`
	Key    string           `arg:"" name:"id" help:"The canonical id, a system's id of the record, or an e-mail address."`
}

// find returns the one that is meant.
func (e entity) find(ctx context.Context, c *bus.Conn) (history.Ref, error) {
	found, err := findAll(ctx, c, e.Tenant, e.Key)
	if err != nil {
		return history.Ref{}, err
	}
	if len(found) > 1 {
		lines := make([]string, len(found))
		for i, r := range found {
			lines[i] = fmt.Sprintf("%s %s of tenant %s", r.Kind, r.ID, r.Tenant)
		}
		return history.Ref{}, fmt.Errorf("that may be any of these; say which by its id: %s", strings.Join(lines, ", "))
	}
	return found[0], nil
}

func findAll(ctx context.Context, c *bus.Conn, tenant canonical.Tenant, key string) ([]history.Ref, error) {
	tenants := []canonical.Tenant{tenant}
	if tenant == "" {
		var err error
		if tenants, err = streams.Tenants(ctx, c.JetStream()); err != nil {
			return nil, err
		}
	}
	return history.Find(ctx, c, tenants, key)
}

// at is a time as a person says it: a date, a date and a time of day, or how
// long ago.
type at struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *at) UnmarshalText(text []byte) error {
	s := string(text)
	if d, err := parseDuration(strings.TrimPrefix(s, "-")); err == nil {
		a.Time = time.Now().Add(-d)
		return nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			a.Time = t
			return nil
		}
	}
	return errors.New(`a time is written as 2026-11-24T15:04:05Z, "2026-11-24 15:04" or 2026-11-24 in local time, or as how long ago, such as 36h`)
}

type contactShowCmd struct {
	entity
	At at `help:"As Causeway held it for true at that time: 2026-11-24T15:04:05Z, \"2026-11-24 15:04\", or how long ago, such as 36h." placeholder:"TIME"`
}

func (c *contactShowCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ref, err := c.find(ctx, conn)
	if err != nil {
		return err
	}
	state, err := history.Show(ctx, conn, ref, c.At.Time)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(os.Stdout, state)
	}
	return printState(os.Stdout, state)
}

func clockTime(t time.Time) string { return t.Local().Format(time.DateTime) }

func printState(out io.Writer, s history.State) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s of %s, version %d, %s %s\n", s.Kind, s.ID, s.Tenant, s.Event.Version, s.Op, clockTime(s.Decided))
	for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
		for _, x := range s.Event.Links[system] {
			fmt.Fprintf(&b, "%s record %s\n", system, x)
		}
	}
	if id := s.Event.ContactID(); id != "" {
		fmt.Fprintf(&b, "hangs on contact %s\n", id)
	}
	if s.Event.Deleted() {
		b.WriteString("it is deleted\n")
	}
	if s.Event.MergedInto != "" {
		fmt.Fprintf(&b, "it was merged into %s\n", s.Event.MergedInto)
	}
	if !s.Until.IsZero() {
		fmt.Fprintf(&b, "until %s", clockTime(s.Until))
		if s.Missing != nil {
			fmt.Fprintf(&b, "; versions %d to %d came in between and are no longer kept", s.Missing.From, s.Missing.To)
		}
		fmt.Fprintf(&b, "; the newest is version %d\n", s.Newest)
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "FIELD\tVALUE\tOF\tSINCE\tRAW\tGHL SHOWS\tNOVI SHOWS") // it can't fail before out is written
	for _, f := range s.Fields {
		since, raw := "-", "-"
		if !f.At.IsZero() {
			since, raw = clockTime(f.At), fmt.Sprint(f.Seq)
		}
		value := shownAs(f.Value)
		if f.Held {
			value += " (held: it flips)"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, value, cmp.Or(string(f.Origin), "-"), since, raw, sideShows(f, canonical.GHL), sideShows(f, canonical.Novi))
	}
	_ = t.Flush()
	_, err := io.WriteString(out, b.String())
	return err
}

// shownAs is a value in one line.
func shownAs(v string) string {
	if v == "" {
		return "-"
	}
	if strings.ContainsAny(v, "\n\r\t") {
		return fmt.Sprintf("%q", v)
	}
	return v
}

// sideShows is what a system shows of a field: "=" if that is its value.
func sideShows(f history.Field, system canonical.System) string {
	v, ok := f.Shown[system]
	switch {
	case !ok:
		return ""
	case v == f.Value:
		return "="
	}
	return shownAs(v)
}

type contactBlameCmd struct {
	entity
	Field string `arg:"" optional:"" help:"The field, as show lists it: phone, address.city, custom.shirt_size, tag:board. All of them if none is said."`
}

func (c *contactBlameCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ref, err := c.find(ctx, conn)
	if err != nil {
		return err
	}
	fields := []string{c.Field}
	if c.Field == "" {
		state, err := history.Show(ctx, conn, ref, time.Time{})
		if err != nil {
			return err
		}
		fields = fields[:0]
		for _, f := range state.Fields {
			fields = append(fields, f.Name)
		}
	}
	for i, f := range fields {
		blame, err := history.BlameField(ctx, conn, ref, f)
		if err != nil {
			return err
		}
		if c.JSON {
			err = printJSON(os.Stdout, blame)
		} else {
			err = printBlame(os.Stdout, blame, i > 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func printBlame(out io.Writer, x history.Blame, again bool) error {
	var b strings.Builder
	if again {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s is %s\n", x.Name, shownAs(x.Value))
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-8s %s\n", name, fmt.Sprintf(format, args...))
	}
	if x.Origin != "" {
		line("who", "a user of %s", x.Origin)
	}
	if a := x.Answer; a != nil {
		where := fmt.Sprintf("%s record %s, in the answer of %s", a.System, a.Record, cmp.Or(a.Endpoint, string(a.Via)))
		line("where", "%s (RAW %d, read %s, via %s)", where, a.Seq, clockTime(a.ReadBegan), a.Via)
	} else if x.Seq > 0 {
		line("where", "RAW %d, which is no longer kept", x.Seq)
	}
	if n := x.Notice; n != nil {
		line("told by", "a notice at %s (RAW %d %s)", clockTime(n.At), n.Seq, n.MessageID)
	}
	if !x.At.IsZero() {
		line("when", "%s by the clock of %s", clockTime(x.At), cmp.Or(string(x.Origin), "its system"))
	}
	if x.Version > 0 {
		line("decided", "%s, as version %d; before it was %s", clockTime(x.Decided), x.Version, shownAs(x.From))
	}
	line("why", "%s", x.Why)
	if x.Conflict != nil {
		line("lost", "%s, of %s (%s)", shownAs(x.Conflict.Lost), x.Conflict.Origin, x.Conflict.Reason)
	}
	if x.Held {
		line("held", "it flips between values and is left alone")
	}
	for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
		if v, ok := x.Shown[system]; ok && v != x.Value {
			line(string(system), "shows %s", shownAs(v))
		}
	}
	for i, c := range x.Earlier {
		name := ""
		if i == 0 {
			name = "before"
		}
		what := fmt.Sprintf("%s → %s", shownAs(c.From), shownAs(c.To))
		if c.From == c.To && c.Conflict != nil {
			what = fmt.Sprintf("%s of %s lost (%s)", shownAs(c.Conflict.Lost), c.Conflict.Origin, c.Conflict.Reason)
		}
		line(name, "%s, version %d, of %s: %s", clockTime(c.Decided), c.Version, cmp.Or(string(c.Origin), "-"), what)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

type traceCmd struct {
	server
	Tenant canonical.Tenant `help:"Only this tenant's." placeholder:"SLUG"`
	Since  time.Duration    `help:"How far back to look for a webhook's id, of which there is no index." default:"168h"`
	JSON   bool             `name:"json" help:"Print JSON. It holds personal data."`
	Key    string           `arg:"" name:"id" help:"A webhook's id, a system's id of a record, a canonical id, an e-mail address, or RAW and a sequence, such as RAW:99120."`
}

// Run prints what followed from a webhook or from a message of RAW, or all
// that happened to an entity.
func (c *traceCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var seq uint64
	if n, err := fmt.Sscanf(c.Key, "RAW:%d", &seq); err == nil && n == 1 {
		return c.path(ctx, conn, seq)
	}
	found, err := findAll(ctx, conn, c.Tenant, c.Key)
	if errors.Is(err, history.ErrUnknown) {
		notices, scanErr := history.Notices(ctx, conn, c.Key, time.Now().Add(-c.Since))
		if scanErr != nil {
			return scanErr
		}
		if len(notices) == 0 {
			return fmt.Errorf("%w, and no webhook of the last %s has that id", err, c.Since)
		}
		for _, n := range notices {
			if err := c.path(ctx, conn, n.Seq); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	for _, ref := range found {
		t, err := history.Read(ctx, conn, ref)
		if err != nil {
			return err
		}
		if c.JSON {
			err = printJSON(os.Stdout, t)
		} else {
			err = printTimeline(os.Stdout, t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *traceCmd) path(ctx context.Context, conn *bus.Conn, seq uint64) error {
	p, err := history.Trace(ctx, conn, seq)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(os.Stdout, p)
	}
	return printPath(os.Stdout, p)
}

func printPath(out io.Writer, p history.Path) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s of %s\n", p.Kind, cmp.Or(p.ID, "(no entity)"), p.Tenant)
	printEntries(&b, p.Entries)
	fmt.Fprintf(&b, "%s\n", p.End)
	_, err := io.WriteString(out, b.String())
	return err
}

func printTimeline(out io.Writer, t history.Timeline) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s of %s\n", t.Kind, t.ID, t.Tenant)
	printEntries(&b, t.Entries)
	for _, m := range t.Missing {
		fmt.Fprintf(&b, "versions %d to %d are no longer kept\n", m.From, m.To)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// printEntries prints one a line, with the time since the one before.
func printEntries(b *strings.Builder, entries []history.Entry) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for i, e := range entries {
		after := ""
		if i > 0 {
			after = "+" + rounded(e.At.Sub(entries[i-1].At))
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s %d\t%s\n", e.At.Local().Format("2006-01-02 15:04:05.000"), after, e.Step, e.Stream, e.Seq, happened(e))
	}
	_ = t.Flush() // a builder takes everything
}

func rounded(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// happened says in a line what an entry is about.
func happened(e history.Entry) string {
	switch e.Step {
	case history.StepNotice:
		return strings.TrimSpace(fmt.Sprintf("%s told of record %s %s", e.System, e.Record, e.MessageID))
	case history.StepSeen, history.StepWriteback:
		what := "showed"
		if e.Absent {
			what = "has no"
		}
		said := fmt.Sprintf("%s %s record %s (%s)", e.System, what, e.Record, cmp.Or(e.Endpoint, string(e.Via)))
		if e.Step == history.StepSeen {
			said += ", via " + string(e.Via)
		}
		return said
	case history.StepSaid:
		if e.Via == "intent" {
			if len(e.Wrote) == 0 {
				return fmt.Sprintf("nothing is being written to %s any more", e.System)
			}
			return fmt.Sprintf("%s will be written: %s", e.System, wrote(e.Wrote))
		}
		return strings.TrimSpace(fmt.Sprintf("%s by %s %s", e.Via, e.System, e.Reason))
	case history.StepVersion:
		var parts []string
		for _, c := range e.Changes {
			switch {
			case c.From == c.To && c.Conflict != nil:
				parts = append(parts, fmt.Sprintf("%s stays %s, %s of %s lost", c.Field, shownAs(c.To), shownAs(c.Conflict.Lost), c.Conflict.Origin))
			case c.Field == "tags" && c.From == "":
				parts = append(parts, "tag +"+c.To)
			case c.Field == "tags":
				parts = append(parts, "tag -"+c.From)
			default:
				parts = append(parts, fmt.Sprintf("%s %s → %s", c.Field, shownAs(c.From), shownAs(c.To)))
			}
		}
		if e.MergedInto != "" {
			parts = append(parts, "it is "+string(e.MergedInto)+" now")
		}
		if len(parts) == 0 {
			parts = append(parts, "no field changed")
		}
		return fmt.Sprintf("version %d, %s by RAW %d: %s", e.Version, e.Op, e.Cause.Sequence, strings.Join(parts, ", "))
	case history.StepIntent, history.StepOutcome:
		verb := "update"
		switch {
		case e.Create:
			verb = "create"
		case e.Delete:
			verb = "delete"
		}
		said := fmt.Sprintf("%s %s of version %d, try %d: %s", e.System, verb, e.Version, e.Attempt, e.State)
		if len(e.Wrote) > 0 && e.Step == history.StepIntent {
			said += ": " + wrote(e.Wrote)
		}
		if e.Reason != "" {
			said += ": " + e.Reason
		}
		return said
	}
	return e.Reason
}

func wrote(fields map[string]string) string {
	var parts []string
	for f, v := range fields {
		switch tag, isTag := strings.CutPrefix(f, canonical.TagField("")); {
		case isTag && v == "":
			parts = append(parts, "tag -"+tag)
		case isTag:
			parts = append(parts, "tag +"+tag)
		default:
			parts = append(parts, f+" "+shownAs(v))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
