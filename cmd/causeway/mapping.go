package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/process"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
)

type mappingCmd struct {
	Check mappingCheckCmd `cmd:"" help:"Look for values that a mapping does not bring back as they were."`
	Show  mappingShowCmd  `cmd:"" help:"Show where each field lives, both systems side by side."`
}

// configured is how a verb finds the configuration.
type configured struct {
	Config string           `help:"The configuration." default:"causeway.yaml" env:"CAUSEWAY_CONFIG" placeholder:"FILE"`
	Tenant canonical.Tenant `help:"Only this tenant's." placeholder:"SLUG"`
}

func (c configured) load() (*config.File, []config.Tenant, error) {
	file, err := config.Load(c.Config)
	if err != nil || c.Tenant == "" {
		if err != nil {
			return nil, nil, err
		}
		return file, file.Tenants, nil
	}
	for _, t := range file.Tenants {
		if t.Name == c.Tenant {
			return file, []config.Tenant{t}, nil
		}
	}
	return nil, nil, fmt.Errorf("%s: there is no tenant %q", c.Config, c.Tenant)
}

type mappingCheckCmd struct {
	configured
	Samples    string        `help:"Also try the RAW observations in this file, one JSON object a line." placeholder:"FILE" xor:"samples"`
	NATS       bool          `name:"nats" help:"Also try what RAW and CANONICAL hold, at the server that the configuration names." xor:"samples"`
	Since      time.Duration `help:"With --nats: what is not older." default:"24h"`
	Last       int           `help:"With --nats: the last so many messages of each stream, by tenant." default:"1000"`
	ShowValues bool          `help:"Show the values, which may be personal data, and not only what they are like."`
	JSON       bool          `name:"json" help:"Print one JSON object a line: each law that is broken, then the sum of a tenant."`
}

func (c *mappingCheckCmd) Run(ctx context.Context) error {
	file, tenants, err := c.load()
	if err != nil {
		return err
	}
	samples := map[canonical.Tenant]mapping.Samples{}
	switch {
	case c.Samples != "":
		samples, err = readSamples(c.Samples)
	case c.NATS:
		samples, err = c.scan(ctx, file, tenants)
	}
	if err != nil {
		return err
	}
	return checkMappings(os.Stdout, tenants, samples, c.ShowValues, c.JSON)
}

// checkMappings prints what breaks a law, and is an error if anything does.
func checkMappings(out io.Writer, tenants []config.Tenant, samples map[canonical.Tenant]mapping.Samples, values, asJSON bool) error {
	bad := 0
	for _, t := range tenants {
		s := samples[t.Name]
		found := mapping.CheckLaws(t.Lens(), s)
		if asJSON {
			bad += len(found)
			if err := printChecked(out, t, s, found, values); err != nil {
				return err
			}
			continue
		}
		if len(found) == 0 {
			if _, err := fmt.Fprintf(out, "%s: %d fields hold, on awkward values, %d records and %d entities\n", t.Name, bound(t.Lens()), len(s.Records), len(s.Contacts)+len(s.Items)); err != nil {
				return err
			}
		}
		for _, v := range found {
			bad++
			if err := printViolation(out, t.Name, v, values); err != nil {
				return err
			}
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d times a mapping does not bring back what it was given", bad)
	}
	return nil
}

// brokenLaw and checkedTenant are what is found, as it is printed.
type brokenLaw struct {
	Tenant canonical.Tenant `json:"tenant"`
	mapping.Violation
}

type checkedTenant struct {
	Tenant   canonical.Tenant `json:"tenant"`
	Fields   int              `json:"fields"`
	Records  int              `json:"records"`
	Entities int              `json:"entities"`
	Broken   int              `json:"broken"`
}

func printChecked(out io.Writer, t config.Tenant, s mapping.Samples, found []mapping.Violation, values bool) error {
	lines := json.NewEncoder(out)
	for _, v := range found {
		if !values {
			v.Put, v.Got = "", ""
		}
		if err := lines.Encode(brokenLaw{t.Name, v}); err != nil {
			return fmt.Errorf("print check: %w", err)
		}
	}
	if err := lines.Encode(checkedTenant{Tenant: t.Name, Fields: bound(t.Lens()), Records: len(s.Records), Entities: len(s.Contacts) + len(s.Items), Broken: len(found)}); err != nil {
		return fmt.Errorf("print check: %w", err)
	}
	return nil
}

// bound is how many fields of all kinds a lens binds.
func bound(l *mapping.Lens) int {
	n := 0
	for _, kind := range kinds {
		n += len(l.BindingsOf(kind))
	}
	return n
}

// kinds are what has fields.
var kinds = append([]canonical.Kind{canonical.KindContact}, canonical.Items()...)

func printViolation(out io.Writer, tenant canonical.Tenant, v mapping.Violation, values bool) error {
	said := map[mapping.Law]string{
		mapping.PutGet: "what is written is not what is read back", mapping.GetPut: "putting back what was read changes it",
		mapping.Readable: "can't be read", mapping.Writable: "can't be written",
	}[v.Law]
	field := v.Field
	if v.Kind != canonical.KindContact {
		field = string(v.Kind) + "." + field
	}
	line := fmt.Sprintf("%s: %s at %s: %s: %s", tenant, field, v.System, said, v.Class)
	if v.Field == "" {
		line = fmt.Sprintf("%s: %s: %s", tenant, v.Class, said)
	}
	if v.Problem != "" {
		line += ": " + v.Problem
	}
	if values && v.Problem == "" {
		line += fmt.Sprintf(": %q gives %q", v.Put, v.Got)
	} else if values {
		line += fmt.Sprintf(": %q", v.Put)
	}
	_, err := fmt.Fprintln(out, line)
	return err
}

// whole reports whether o shows a record of its kind.
func whole(o observation.Observation) bool {
	return slices.Contains(kinds, o.Kind) && o.Via != observation.Notice && o.Via != observation.Intent && len(o.Record) > 0
}

func readSamples(path string) (map[canonical.Tenant]mapping.Samples, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("samples: %w", err)
	}
	out := map[canonical.Tenant]mapping.Samples{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		o, err := observation.Decode(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		if whole(o) {
			s := out[o.Tenant]
			s.Records = append(s.Records, o)
			out[o.Tenant] = s
		}
	}
	return out, lines.Err()
}

// scan reads the last messages of each tenant from RAW and CANONICAL.
func (c *mappingCheckCmd) scan(ctx context.Context, file *config.File, tenants []config.Tenant) (map[canonical.Tenant]mapping.Samples, error) {
	conn, err := bus.Connect(ctx, process.Broker(file, "causeway"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	since := time.Now().Add(-c.Since)
	out := map[canonical.Tenant]mapping.Samples{}
	for _, t := range tenants {
		s, err := samplesOf(ctx, conn, t.Name, since, c.Last)
		if err != nil {
			return nil, err
		}
		out[t.Name] = s
	}
	return out, nil
}

func samplesOf(ctx context.Context, conn *bus.Conn, tenant canonical.Tenant, since time.Time, last int) (mapping.Samples, error) {
	var s mapping.Samples
	err := conn.Scan(ctx, streams.RAW, streams.RawOfTenant(tenant), since, func(m bus.Stored) error {
		o, err := observation.Decode(m.Data)
		if err == nil && whole(o) {
			s.Records = keepLast(s.Records, o, last)
		}
		return nil // a message that can't be read is the transform's to report
	})
	if err != nil {
		return s, err
	}
	for _, kind := range kinds {
		err := conn.Scan(ctx, streams.CANONICAL, streams.EntitiesOf(kind, tenant), since, func(m bus.Stored) error {
			e, err := canonical.DecodeEvent(m.Data)
			switch {
			case err != nil:
				return fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
			case kind == canonical.KindContact:
				s.Contacts = keepLast(s.Contacts, e.Contact, last)
			default:
				s.Items = keepLast(s.Items, e, last)
			}
			return nil
		})
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// keepLast appends v to list and lets go of what comes before the last n.
func keepLast[T any](list []T, v T, n int) []T {
	list = append(list, v)
	return list[max(0, len(list)-n):]
}

type mappingShowCmd struct {
	configured
	Kind canonical.Kind `arg:"" optional:"" default:"contact" enum:"contact,task,note,appointment" help:"The kind: contact, task, note or appointment."`
	JSON bool           `name:"json" help:"Print one JSON object a line."`
}

// shownSide and shownField are a binding as it is printed.
type shownSide struct {
	Path  string `json:"path,omitempty"`
	When  string `json:"write_when,omitempty"` // always, create or never
	Read  string `json:"read,omitempty"`
	Write string `json:"write,omitempty"`
}

type shownField struct {
	Tenant    canonical.Tenant  `json:"tenant"`
	Kind      canonical.Kind    `json:"kind"`
	Field     string            `json:"field"`
	GHL       shownSide         `json:"ghl"`
	Novi      shownSide         `json:"novi"`
	Convert   mapping.Convert   `json:"convert"`
	Authority mapping.Authority `json:"authority"`
}

func (c *mappingShowCmd) Run() error {
	_, tenants, err := c.load()
	if err != nil {
		return err
	}
	if !c.JSON && len(tenants) > 1 {
		return errors.New("there are several tenants: name one with --tenant")
	}
	for _, t := range tenants {
		if err := showMapping(os.Stdout, t, c.Kind, c.JSON); err != nil {
			return err
		}
	}
	return nil
}

func showMapping(out io.Writer, t config.Tenant, kind canonical.Kind, asJSON bool) error {
	l, p := t.Lens(), t.Policy()
	side := func(s mapping.Side) shownSide {
		shown := shownSide{Path: s.Path, When: string(s.Write), Read: s.ReadExpr.String(), Write: s.WriteExpr.String()}
		if s.Path != "" && s.Write == mapping.Never {
			shown.When = "never"
		}
		return shown
	}
	lines := json.NewEncoder(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if !asJSON {
		_, _ = fmt.Fprintln(table, "FIELD\tGHL\tWRITE\tNOVI\tWRITE\tCONVERT\tAUTHORITY") // the error comes with Flush
	}
	for _, b := range l.BindingsOf(kind) {
		f := shownField{Tenant: t.Name, Kind: kind, Field: b.Field, GHL: side(b.GHL), Novi: side(b.Novi), Convert: b.Convert, Authority: b.Authority}
		if asJSON {
			if err := lines.Encode(f); err != nil {
				return fmt.Errorf("print mapping: %w", err)
			}
			continue
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Field, f.GHL.cell(), orDash(f.GHL.When), f.Novi.cell(), orDash(f.Novi.When), f.Convert, f.Authority)
	}
	if asJSON {
		return nil
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if kind != canonical.KindContact {
		to := map[bool]string{true: "yes", false: "no"}
		_, err := fmt.Fprintf(out, "\nwritten to GHL: %s; to Novi: %s, as activities of type %q\n", to[p.Syncs(kind, canonical.GHL)], to[p.Syncs(kind, canonical.Novi)], l.ActivityType(kind))
		return err
	}
	field := "not written to Novi"
	if l.Tags.NoviField != "" {
		field = fmt.Sprintf("custom field %q of Novi, separated by %q", l.Tags.NoviField, l.Tags.Separator)
	}
	_, err := fmt.Fprintf(out, "\ntags: %s; Novi groups arrive as %q\nmade in GHL: %s; made in Novi: %s\n", field, l.Tags.GroupPrefix+"…", p.CreateGHL, p.CreateNovi)
	return err
}

func (s shownSide) cell() string {
	parts := []string{orDash(s.Path)}
	if s.Read != "" {
		parts = append(parts, "read: "+s.Read)
	}
	if s.Write != "" {
		parts = append(parts, "write: "+s.Write)
	}
	return strings.Join(parts, " | ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
