package console

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-json"
	"github.com/goccy/go-yaml"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/preview"
	"github.com/causeway-sync/causeway/streams"
)

// mappingPage is where the fields of a kind live for a tenant, to be changed.
type mappingPage struct {
	Tenant  canonical.Tenant
	Kind    canonical.Kind
	Kinds   []canonical.Kind
	Rows    []bindingRow
	Sum     string // of the file, as the form was made from it
	File    string
	Save    bool
	Example canonical.CanonicalID // whose values are shown
	Name    string
	Known   map[canonical.System][]string // fields that the records have
	Free    []string                      // canonical fields without a binding
	Convert []mapping.Convert
	Decide  []mapping.Authority
	Tried   bool
	Wrong   string
	Changed []string
	Laws    []mapping.Violation
	Plan    *planned
}

// At is the page's address.
func (p mappingPage) At() string {
	at := "/t/" + string(p.Tenant) + "/mapping"
	if p.Kind != canonical.KindContact {
		at += "?kind=" + string(p.Kind)
	}
	return at
}

// kinds are those that have a mapping.
func kinds() []canonical.Kind {
	return append([]canonical.Kind{canonical.KindContact}, canonical.Items()...)
}

// kindOf is the kind that a request is about.
func kindOf(r *http.Request) (canonical.Kind, error) {
	kind := canonical.Kind(cmp.Or(r.FormValue("kind"), string(canonical.KindContact)))
	if !slices.Contains(kinds(), kind) {
		return "", notFound("there is no mapping of %s", kind)
	}
	return kind, nil
}

// KnownAt is what the records of a system have.
func (p mappingPage) KnownAt(system string) []string { return p.Known[canonical.System(system)] }

// bindingRow is one field's row.
type bindingRow struct {
	Field, GHL, Novi, GHLWrite, NoviWrite string
	Convert                               mapping.Convert
	Authority                             mapping.Authority
	More                                  bool // it has what is set in the file only: expressions, tables
	ToNovi, ToGHL                         travelled
	Changed                               bool
}

// travelled is a real record's value on its way from one system to the other.
type travelled struct {
	From, Canonical, To string
	Problem             string
	Any                 bool
}

// planned is what a changed mapping would cause.
type planned struct {
	Operations []preview.Operation
	Summary    preview.Summary
	Short      bool // it took too long, or was too much: these are the first
}

// settings is a tenant's configuration as the file has it now.
type settings struct {
	tenant config.Tenant
	path   string // of the file that it is in
	text   []byte
	inDir  bool
}

func (s settings) sum() string {
	h := sha256.Sum256(s.text)
	return hex.EncodeToString(h[:8])
}

// fieldsPath is where the fields of a kind are in the file.
func (s settings) fieldsPath(kind canonical.Kind) []string {
	below := []string{"mapping", string(kind), "fields"}
	if s.inDir {
		return below
	}
	return append([]string{"tenants[" + string(s.tenant.Name) + "]"}, below...)
}

// settings reads the configuration anew.
func (c *Console) settings(name canonical.Tenant) (settings, error) {
	if c.o.ConfigPath == "" {
		return settings{}, notFound("the console was started without --config, and knows no mapping")
	}
	file, err := config.Load(c.o.ConfigPath)
	if err != nil {
		return settings{}, problem{http.StatusConflict, "The configuration does not load: " + err.Error()}
	}
	t, ok := tenantIn(file, name)
	if !ok {
		return settings{}, notFound("the configuration has no tenant %s", name)
	}
	s := settings{tenant: t, path: c.o.ConfigPath}
	if s.text, err = os.ReadFile(s.path); err != nil {
		return s, fmt.Errorf("configuration: %w", err)
	}
	var own config.File
	if err := yaml.Unmarshal(s.text, &own); err != nil {
		return s, fmt.Errorf("configuration: %w", err)
	}
	if !slices.ContainsFunc(own.Tenants, func(t config.Tenant) bool { return t.Name == name }) {
		s.inDir, s.path = true, filepath.Join(file.Beside(file.TenantsDir), string(name)+".yaml")
		if s.text, err = os.ReadFile(s.path); err != nil {
			return s, fmt.Errorf("configuration: %w", err)
		}
	}
	return s, nil
}

// effective is what the tenant's mapping comes to with its template.
func effective(t config.Tenant, own mapping.Spec) (mapping.Spec, error) {
	template, err := mapping.Template(t.Template)
	if err != nil {
		return mapping.Spec{}, err
	}
	spec := template.With(own)
	if t.GHL != nil && spec.Contact.CreateWhen.GHL == "" || t.GHL != nil && t.GHL.Create != "" {
		spec.Contact.CreateWhen.GHL = t.GHL.Create
	}
	if t.Novi != nil && t.Novi.Create != "" {
		spec.Contact.CreateWhen.Novi = t.Novi.Create
	}
	return spec, nil
}

func rowsOf(kind canonical.Kind, fields map[string]*mapping.FieldSpec) []bindingRow {
	var out []bindingRow
	for _, name := range slices.SortedFunc(maps.Keys(fields), byField) {
		f := fields[name]
		if f == nil {
			continue
		}
		r := bindingRow{Field: name, GHL: f.GHL.Path, Novi: f.Novi.Path, GHLWrite: whenWritten(f.GHLWrite), NoviWrite: whenWritten(f.NoviWrite), Convert: f.Convert, Authority: f.Authority}
		r.More = f.GHL.Read+f.GHL.Write+f.Novi.Read+f.Novi.Write+f.Lookup+f.HTML != "" || f.Enum.GHL != nil || f.Enum.Novi != nil || f.Separator != (mapping.PerSystem{})
		if r.Convert == "" {
			r.Convert = mapping.Text
		}
		if r.Authority == "" {
			r.Authority = mapping.Newest
		}
		if kind == canonical.KindAppointment { // they are GHL's, and never written there
			if r.Authority = mapping.ByGHL; r.GHL != "" {
				r.GHLWrite = string(mapping.Never)
			}
		}
		out = append(out, r)
	}
	return out
}

// whenWritten is a way of writing as the form has it: "" is always.
func whenWritten(s string) string {
	if s == string(mapping.Always) {
		return ""
	}
	return s
}

// asked returns the fields that a form changes, by name; nil takes one away.
func asked(r *http.Request, kind canonical.Kind, now map[string]*mapping.FieldSpec) (map[string]*mapping.FieldSpec, error) {
	f := r.PostForm
	names := f["field"]
	for _, column := range []string{"ghl", "novi", "convert", "authority", "ghl_write", "novi_write"} {
		if len(f[column]) != len(names) {
			return nil, problem{http.StatusBadRequest, "the form is not whole"}
		}
	}
	shown := map[string]bindingRow{}
	for _, row := range rowsOf(kind, now) {
		shown[row.Field] = row
	}
	out := map[string]*mapping.FieldSpec{}
	seen := map[string]bool{}
	for i, name := range names {
		name = strings.TrimSpace(name)
		row := bindingRow{Field: name, GHL: strings.TrimSpace(f["ghl"][i]), Novi: strings.TrimSpace(f["novi"][i]), GHLWrite: f["ghl_write"][i], NoviWrite: f["novi_write"][i],
			Convert: mapping.Convert(f["convert"][i]), Authority: mapping.Authority(f["authority"][i])}
		if name == "" && row.GHL+row.Novi == "" {
			continue // the empty row for a new one
		}
		if seen[name] {
			return nil, problem{http.StatusBadRequest, name + " is there twice"}
		}
		seen[name] = true
		before, is := shown[name]
		row.More = before.More
		switch {
		case is && row == before:
		case row.GHL+row.Novi == "":
			if is {
				out[name] = nil
			}
		default:
			spec := mapping.FieldSpec{}
			if now[name] != nil {
				spec = *now[name]
			}
			spec.GHL.Path, spec.Novi.Path = row.GHL, row.Novi
			if row.GHL == "" {
				spec.GHL, row.GHLWrite = mapping.SideSpec{}, ""
			}
			if row.Novi == "" {
				spec.Novi, row.NoviWrite = mapping.SideSpec{}, ""
			}
			spec.GHLWrite, spec.NoviWrite, spec.Convert, spec.Authority = row.GHLWrite, row.NoviWrite, row.Convert, row.Authority
			if spec.Convert == mapping.Text {
				spec.Convert = ""
			}
			if spec.Authority == mapping.Newest {
				spec.Authority = ""
			}
			out[name] = &spec
		}
	}
	return out, nil
}

// changedBy lays fields of a kind over a tenant's own mapping.
func changedBy(own mapping.Spec, kind canonical.Kind, fields map[string]*mapping.FieldSpec) mapping.Spec {
	all := maps.Clone(own.FieldsOf(kind))
	if all == nil {
		all = map[string]*mapping.FieldSpec{}
	}
	maps.Copy(all, fields)
	own.SetFieldsOf(kind, all)
	return own
}

func (c *Console) mapping(w http.ResponseWriter, r *http.Request) error {
	s, err := c.settings(canonical.Tenant(r.PathValue("tenant")))
	if err != nil {
		return err
	}
	kind, err := kindOf(r)
	if err != nil {
		return err
	}
	return c.mappingShown(w, r, s, kind, nil)
}

// try shows what a changed mapping would do, and changes nothing.
func (c *Console) try(w http.ResponseWriter, r *http.Request) error {
	s, err := c.settings(canonical.Tenant(r.PathValue("tenant")))
	if err != nil {
		return err
	}
	r.Body = http.MaxBytesReader(w, r.Body, mostForm)
	if err := r.ParseForm(); err != nil {
		return problem{http.StatusBadRequest, "the form can't be read"}
	}
	kind, err := kindOf(r)
	if err != nil {
		return err
	}
	spec, err := effective(s.tenant, s.tenant.Mapping)
	if err != nil {
		return err
	}
	fields, err := asked(r, kind, spec.FieldsOf(kind))
	if err != nil {
		return err
	}
	return c.mappingShown(w, r, s, kind, fields)
}

// mappingShown shows the mapping of a kind with fields changed; nil is none, and
// not tried.
func (c *Console) mappingShown(w http.ResponseWriter, r *http.Request, s settings, kind canonical.Kind, fields map[string]*mapping.FieldSpec) error {
	ctx, t := r.Context(), s.tenant
	p := mappingPage{Tenant: t.Name, Kind: kind, Kinds: kinds(), Sum: s.sum(), File: filepath.Base(s.path), Save: who(ctx).Operates(), Convert: mapping.Converts(), Decide: mapping.Authorities(), Tried: fields != nil,
		Changed: slices.SortedFunc(maps.Keys(fields), byField)}
	if kind == canonical.KindContact {
		p.Convert = slices.DeleteFunc(p.Convert, func(x mapping.Convert) bool {
			return x == mapping.Instant || x == mapping.Rich || x == mapping.User // not for contacts
		})
	}
	spec, err := effective(t, changedBy(t.Mapping, kind, fields))
	if err != nil {
		return err
	}
	p.Rows = rowsOf(kind, spec.FieldsOf(kind))
	for i := range p.Rows {
		_, p.Rows[i].Changed = fields[p.Rows[i].Field]
	}
	if p.Free, err = free(t, kind, spec.FieldsOf(kind)); err != nil {
		return err
	}
	lens, policy, buildErr := t.Build(spec)
	records, err := c.example(ctx, t.Name, canonical.CanonicalID(strings.TrimSpace(r.FormValue("example"))), &p)
	if err != nil {
		return err
	}
	p.Known = knownFields(records)
	if buildErr != nil {
		p.Wrong = buildErr.Error()
		return c.show(w, r, "mapping", "Mapping of "+string(t.Name)+": "+string(kind), nil, p)
	}
	travel(lens, kind, records, p.Rows)
	if p.Tried {
		var samples mapping.Samples
		for _, o := range records {
			samples.Records = append(samples.Records, o)
		}
		p.Laws = mapping.CheckLaws(lens, samples)
		if p.Plan, err = c.plan(ctx, t, lens, policy); err != nil {
			return err
		}
	}
	return c.show(w, r, "mapping", "Mapping of "+string(t.Name)+": "+string(kind), nil, p)
}

// free returns the fields of a kind that have no place at either system.
func free(t config.Tenant, kind canonical.Kind, fields map[string]*mapping.FieldSpec) ([]string, error) {
	names := canonical.ContactFields()
	if kind != canonical.KindContact { // the template has all of an item's
		template, err := mapping.Template(t.Template)
		if err != nil {
			return nil, err
		}
		names = slices.Sorted(maps.Keys(template.FieldsOf(kind)))
	}
	return slices.DeleteFunc(names, func(name string) bool { return fields[name] != nil }), nil
}

// example returns the last whole record at each system of an entity of the
// page's kind: of id, or of what changed last, of contacts one that is in both
// systems.
func (c *Console) example(ctx context.Context, t canonical.Tenant, id canonical.CanonicalID, p *mappingPage) (map[canonical.System]observation.Observation, error) {
	out := map[canonical.System]observation.Observation{}
	if id == "" && p.Kind == canonical.KindContact {
		c.world.mu.RLock()
		if x := c.world.tenants[t]; x != nil {
			for _, person := range x.people.latest(recent) {
				if id == "" && !person.gone() || person.GHL && person.Novi && !person.gone() {
					id = person.ID
				}
				if person.ID == id && person.GHL && person.Novi {
					break
				}
			}
		}
		c.world.mu.RUnlock()
		if id == "" {
			return out, nil
		}
	}
	subject := streams.EntitiesOf(p.Kind, t)
	if id != "" {
		subject = streams.Entity(p.Kind, t, id)
	}
	m, err := c.bus.Last(ctx, streams.CANONICAL, subject)
	if errors.Is(err, bus.ErrNotFound) {
		if id == "" {
			return out, nil
		}
		return nil, problem{http.StatusBadRequest, fmt.Sprintf("there is no %s %s", p.Kind, id)}
	}
	if err != nil {
		return nil, err
	}
	e, err := canonical.DecodeEvent(m.Data)
	if err != nil {
		return nil, fmt.Errorf("decode message %d of %s: %w", m.Seq, m.Stream, err)
	}
	p.Example, p.Name = e.ID(), cmp.Or(strings.TrimSpace(e.Contact.FirstName+" "+e.Contact.LastName), e.Field("title"))
	for system, links := range e.Links {
		latest := uint64(0)
		for _, external := range links {
			for _, via := range []observation.Via{observation.Fetch, observation.Poll, observation.Backfill, observation.Reconcile, observation.Writeback} {
				m, err := c.bus.Last(ctx, streams.RAW, streams.RawWhere(system, t, p.Kind, external, via))
				if errors.Is(err, bus.ErrNotFound) || err == nil && m.Seq < latest {
					continue
				}
				if err != nil {
					return nil, err
				}
				o, err := observation.Decode(m.Data)
				if err != nil || o.Absent || o.Endpoint == observation.GHLContactTags {
					continue
				}
				latest, out[system] = m.Seq, o
			}
		}
	}
	return out, nil
}

// knownFields are the paths that records have.
func knownFields(records map[canonical.System]observation.Observation) map[canonical.System][]string {
	out := map[canonical.System][]string{}
	for system, o := range records {
		var record map[string]json.RawMessage
		if json.Unmarshal(o.Record, &record) != nil {
			continue
		}
		for name, raw := range record {
			var inner map[string]json.RawMessage
			switch {
			case name == "customFields" || name == "tags":
			case name == "CustomFields" && json.Unmarshal(raw, &inner) == nil:
				for custom := range inner {
					out[system] = append(out[system], mapping.CustomPath+custom)
				}
			case json.Unmarshal(raw, &inner) == nil && len(inner) > 0:
				for below := range inner {
					out[system] = append(out[system], name+"."+below)
				}
			default:
				out[system] = append(out[system], name)
			}
		}
		for _, custom := range o.Names {
			out[system] = append(out[system], mapping.CustomPath+custom)
		}
		slices.Sort(out[system])
	}
	return out
}

// travel has the records' values go through the lens, in both directions.
func travel(lens *mapping.Lens, kind canonical.Kind, records map[canonical.System]observation.Observation, rows []bindingRow) {
	ghl, hasGHL := records[canonical.GHL]
	novi, hasNovi := records[canonical.Novi]
	ids := map[string]string{}
	for id, name := range ghl.Names {
		ids[name] = id
	}
	shown := map[canonical.System]mapping.Shown{}
	for system, o := range records {
		if s, err := lens.Show(o); err == nil {
			shown[system] = s
		}
	}
	for i := range rows {
		r := &rows[i]
		if v, ok := shown[canonical.GHL].Fields[r.Field]; hasGHL && ok && r.Novi != "" {
			r.ToNovi = travelled{From: at(ghl, r.GHL), Canonical: v, Any: true}
			if hasNovi {
				var over json.RawMessage
				var err error
				if kind == canonical.KindContact {
					over, err = lens.NoviOverlay(novi.Record, map[string]string{r.Field: v}, nil)
				} else {
					over, err = lens.NoviItemOverlay(kind, novi.Record, map[string]string{r.Field: v})
				}
				if err != nil {
					r.ToNovi.Problem = err.Error()
				} else {
					o := novi
					o.Record = over
					r.ToNovi.To = at(o, r.Novi)
				}
			}
		}
		if v, ok := shown[canonical.Novi].Fields[r.Field]; hasNovi && ok && r.GHL != "" {
			r.ToGHL = travelled{From: at(novi, r.Novi), Canonical: v, Any: true}
			if kind != canonical.KindContact {
				body, err := lens.GHLItemBody(kind, map[string]string{r.Field: v})
				if err != nil {
					r.ToGHL.Problem = err.Error()
				}
				r.ToGHL.To = said(body[r.GHL])
				continue
			}
			body, skipped := lens.GHLBody(map[string]string{r.Field: v}, ids)
			if len(skipped) > 0 {
				r.ToGHL.Problem = "it has no spelling there, or the location lacks the field"
				continue
			}
			if list, ok := body["customFields"].([]map[string]any); ok && len(list) > 0 {
				r.ToGHL.To = said(list[0]["field_value"])
			} else if b, ok := body[r.GHL]; ok {
				r.ToGHL.To = said(b)
			} else if settings, ok := body["dndSettings"]; ok {
				r.ToGHL.To = said(settings)
			}
		}
	}
}

// said is a value of JSON for people: a text without quotes, nothing for null.
func said(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	}
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}

// at is what a record has at a path, for people.
func at(o observation.Observation, path string) string {
	var v any
	if json.Unmarshal(o.Record, &v) != nil {
		return ""
	}
	record, _ := v.(map[string]any)
	if custom, ok := strings.CutPrefix(path, mapping.CustomPath); ok {
		if list, ok := record["customFields"].([]any); ok {
			for _, x := range list {
				if item, ok := x.(map[string]any); ok && o.Names[fmt.Sprint(item["id"])] == custom {
					return said(item["value"])
				}
			}
			return ""
		}
		all, _ := record["CustomFields"].(map[string]any)
		item, _ := all[custom].(map[string]any)
		return said(item["Value"])
	}
	v = record
	for _, part := range strings.Split(path, ".") {
		m, _ := v.(map[string]any)
		v = m[part]
	}
	return said(v)
}

// Bounds of a plan that is made while somebody waits.
const (
	planTime    = 10 * time.Second
	mostPlanned = 25 // operations that are shown
)

// plan says which calls a mapping would cause.
func (c *Console) plan(ctx context.Context, t config.Tenant, lens *mapping.Lens, policy *mapping.Policy) (*planned, error) {
	ctx, cancel := context.WithTimeout(ctx, planTime)
	defer cancel()
	cfg := preview.Config{Stream: c.bus, Clock: clock.System{}, Tenant: t.Name, Lens: lens, Policy: policy, Workers: 4}
	if t.GHL != nil {
		cfg.Location = &t.GHL.Location
	}
	if t.Novi != nil {
		paths := noviapi.Paths(t.Novi.Paths)
		cfg.Paths = &paths
	}
	out := &planned{}
	var err error
	out.Summary, err = preview.Run(ctx, cfg, func(o preview.Operation) error {
		if !o.Read && len(out.Operations) < mostPlanned {
			out.Operations = append(out.Operations, o)
		}
		return nil
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		out.Short = true
		return out, nil
	}
	return out, err
}

// saving is one at a time.
var saving sync.Mutex

// save writes a changed mapping into the file that it is in.
func (c *Console) save(ctx context.Context, r *http.Request, a *envelope.Audit) (string, error) {
	saving.Lock()
	defer saving.Unlock()
	s, err := c.settings(a.Tenant)
	if err != nil {
		return "", err
	}
	a.About = filepath.Base(s.path)
	if r.PostFormValue("sum") != s.sum() {
		return "", problem{http.StatusConflict, "Somebody has changed " + a.About + " since this form was made. Look at the mapping again; nothing was saved."}
	}
	kind, err := kindOf(r)
	if err != nil {
		return "", err
	}
	spec, err := effective(s.tenant, s.tenant.Mapping)
	if err != nil {
		return "", err
	}
	fields, err := asked(r, kind, spec.FieldsOf(kind))
	if err != nil {
		return "", err
	}
	if len(fields) == 0 {
		return "Nothing differs; nothing was saved.", nil
	}
	want := changedBy(s.tenant.Mapping, kind, fields)
	if spec, err = effective(s.tenant, want); err == nil {
		_, _, err = s.tenant.Build(spec)
	}
	if err != nil {
		return "", problem{http.StatusUnprocessableEntity, "It can't be used so: " + err.Error() + ". Nothing was saved."}
	}
	text, err := withFields(string(s.text), s.fieldsPath(kind), fields)
	if err != nil {
		return "", problem{http.StatusConflict, a.About + ": " + err.Error() + ". Nothing was saved."}
	}
	if err := s.means([]byte(text), func(t *config.Tenant) { t.Mapping = want }); err != nil {
		return "", problem{http.StatusConflict, a.About + " can't be changed without changing more than was asked for: " + err.Error() + ". Nothing was saved."}
	}
	if err := replace(s.path, []byte(text)); err != nil {
		return "", err
	}
	return "Saved in " + a.About + ": " + strings.Join(slices.SortedFunc(maps.Keys(fields), byField), ", ") + ". The stages take it within seconds.", nil
}

// means reports whether text says what the file said, with the tenant changed so
// and no other difference.
func (s settings) means(text []byte, change func(*config.Tenant)) error {
	compare := func(before, after any, change func()) error {
		if err := yaml.Unmarshal(s.text, before); err != nil {
			return err
		}
		if err := yaml.UnmarshalWithOptions(text, after, yaml.Strict()); err != nil {
			return err
		}
		if change(); !reflect.DeepEqual(before, after) {
			return errors.New("the text would say something else")
		}
		return nil
	}
	if s.inDir {
		var before, after config.Tenant
		return compare(&before, &after, func() { change(&before) })
	}
	var before, after config.File
	return compare(&before, &after, func() {
		for i := range before.Tenants {
			if before.Tenants[i].Name == s.tenant.Name {
				change(&before.Tenants[i])
			}
		}
	})
}

// replace puts text in the place of a file, whole or not at all.
func replace(path string, text []byte) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".causeway-*")
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("save: %w", err), os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(bytes.TrimPrefix(text, []byte("\ufeff")))
	if err == nil {
		err = f.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
