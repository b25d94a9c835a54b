package novi

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/sink/plan"
)

// contacts are the site's members.
type contacts struct{ *Destination }

func memberReading(r noviapi.Record) apply.Reading {
	return apply.Reading{External: canonical.ExternalID(r.ID), Endpoint: observation.NoviMemberGet, Record: r.Raw, ReadBegan: r.ReadBegan, Modified: r.Modified}
}

func (d contacts) read(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	r, err := d.client.GetMember(ctx, budget.Live, string(ref.ID))
	if err != nil {
		return apply.Reading{}, err
	}
	return memberReading(r), nil
}

func (d contacts) readToUpdate(ctx context.Context, ref apply.Ref) (apply.Reading, error) {
	r, err := d.client.GetMemberToPut(ctx, budget.Live, string(ref.ID))
	if err != nil {
		return apply.Reading{}, err
	}
	return memberReading(r), nil
}

// find looks the member up by e-mail, else by name, and takes the one that
// carries the reference that create leaves, or whose e-mail is the contact's.
func (d contacts) find(ctx context.Context, e canonical.Event, _ canonical.ExternalID) (apply.Reading, bool, error) {
	c := e.Contact
	requests := []noviapi.ListRequest{{PageSize: 50, Email: c.Email}}
	if c.Email == "" {
		requests = []noviapi.ListRequest{{PageSize: 50, Name: nameFor(c)}, {PageSize: 50, Name: otherNameFor(c)}}
	}
	for _, request := range requests {
		page, err := d.client.ListMembers(ctx, budget.Live, request)
		if err != nil {
			return apply.Reading{}, false, err
		}
		for _, r := range page.Members {
			if d.isOf(r, c) {
				found, err := d.read(ctx, apply.Ref{ID: canonical.ExternalID(r.ID)})
				return found, err == nil, err
			}
		}
	}
	return apply.Reading{}, false, nil
}

// isOf reports whether a member was made for c, or has its e-mail address.
func (d contacts) isOf(r noviapi.Record, c canonical.Contact) bool {
	shown, err := d.lens.Show(observation.Observation{System: canonical.Novi, Endpoint: observation.NoviMemberList, Record: r.Raw})
	if err != nil || shown.Skip != "" {
		return false
	}
	return shown.Ref == c.ID || c.Email != "" && shown.Fields["email"] == c.Email
}

// nameFor is the display name of a new member. A new member is a QuickBooks
// customer, whose name has to be unique (dossier Novi §8).
func nameFor(c canonical.Contact) string {
	if name := strings.TrimSpace(c.FirstName + " " + c.LastName); name != "" {
		return name
	}
	if c.Email != "" {
		return c.Email
	}
	return string(c.ID)
}

// otherNameFor is the display name where that one is taken: the id tells two
// apart.
func otherNameFor(c canonical.Contact) string { return nameFor(c) + " (" + string(c.ID[:6]) + ")" }

// create makes the member, unless one is there that a person made with the
// same e-mail: that is a Duplicate. Then it reads what it has made.
func (d contacts) create(ctx context.Context, e canonical.Event, parent canonical.ExternalID, p plan.Plan) ([]apply.Reading, error) {
	c := e.Contact
	if c.Email != "" {
		if r, found, err := d.find(ctx, e, parent); err != nil {
			return nil, err
		} else if found {
			return nil, &apierr.Error{System: "novi", Op: "create member", Class: apierr.Duplicate, ExistingID: string(r.External), MatchingField: "email",
				Message: "a member with this e-mail address is there"}
		}
	}
	body, err := d.newMember(c, p, nameFor(c))
	if err != nil {
		return nil, err
	}
	r, err := d.client.CreateMember(ctx, budget.Live, body)
	if apierr.ClassOf(err) == apierr.Invalid {
		// Most likely the display name is taken.
		if body, err = d.newMember(c, p, otherNameFor(c)); err != nil {
			return nil, err
		}
		r, err = d.client.CreateMember(ctx, budget.Live, body)
	}
	if err != nil {
		return nil, err
	}
	return readMade(ctx, d.read, apply.Ref{ID: canonical.ExternalID(r.ID)})
}

func (d contacts) newMember(c canonical.Contact, p plan.Plan, name string) (json.RawMessage, error) {
	member := map[string]any{
		"Name": name, "Active": true, "Approved": true, "CustomerType": "Person", "CustomFields": map[string]any{},
		d.lens.NoviRef: string(c.ID),
	}
	if c.Email != "" {
		member["AccountEmail"] = c.Email // as a working client does (dossier Novi §3.4)
	}
	// The overlay sets only what the member has a key for.
	for field := range p.Fields {
		if b, ok := d.lens.Binding(field); ok && !strings.HasPrefix(b.Novi.Path, mapping.CustomPath) {
			top, _, _ := strings.Cut(b.Novi.Path, ".")
			if _, set := member[top]; !set && top != "" {
				member[top] = nil
			}
		}
	}
	raw, err := json.Marshal(member)
	if err != nil {
		return nil, err
	}
	body, err := d.lens.Of(c).NoviOverlay(raw, p.Fields, p.Tags)
	if err != nil {
		return nil, &apierr.Error{System: "novi", Op: "create member", Class: apierr.Invalid, Message: err.Error(), Err: err}
	}
	return body, nil
}

// update lays p over the member as just read and writes it back whole, then
// reads what it came to.
func (d contacts) update(ctx context.Context, e canonical.Event, ref apply.Ref, p plan.Plan, now apply.Reading) ([]apply.Reading, error) {
	if len(now.Record) == 0 {
		return nil, errors.New("update novi member: the member was not read first")
	}
	if err := d.whole("update member", now.Record); err != nil {
		return nil, err
	}
	body, err := d.lens.Of(e.Contact).NoviOverlay(now.Record, p.Fields, p.Tags)
	if err != nil {
		return nil, &apierr.Error{System: "novi", Op: "update member", Class: apierr.Invalid, Message: err.Error(), Err: err}
	}
	answer, err := d.client.PutMember(ctx, budget.Live, string(ref.ID), body)
	if err != nil {
		return nil, err
	}
	d.replaced(canonical.KindContact, now.ReadBegan)
	readings, err := reread(ctx, d.read, ref)
	return written(answered(memberReading(answer), readings), answer), err
}

// whole returns an error that names the keys which a member lacks as it was
// read: those that the mapping writes, and the protected ones. Novi leaves out
// what the API key is not allowed to see, and a PUT of the rest would empty it
// (dossier Novi §2). It is the key that has to be changed, not the member.
func (d contacts) whole(op string, record json.RawMessage) error {
	var member map[string]json.RawMessage
	if err := json.Unmarshal(record, &member); err != nil || member == nil {
		return &apierr.Error{System: "novi", Op: op, Class: apierr.Invalid, Message: "the member as read is not of the expected shape", Err: err}
	}
	keys := append(slices.Clone(d.protected), d.lens.NoviRef)
	custom := d.lens.Tags.NoviField != ""
	for _, b := range d.lens.Bindings {
		top, _, _ := strings.Cut(b.Novi.Path, ".")
		switch {
		case b.Novi.Write == mapping.Never:
		case strings.HasPrefix(b.Novi.Path, mapping.CustomPath):
			custom = true
		default:
			keys = append(keys, top)
		}
	}
	if custom {
		keys = append(keys, "CustomFields")
	}
	slices.Sort(keys)
	var hidden []string
	for _, key := range slices.Compact(keys) {
		if _, shown := member[key]; key != "" && !shown {
			hidden = append(hidden, key)
		}
	}
	if hidden == nil {
		return nil
	}
	return &apierr.Error{System: "novi", Op: op, Class: apierr.Forbidden, Message: "the API key doesn't show " + strings.Join(hidden, ", ") + "; a PUT would empty them"}
}

// remove makes the member inactive: members can't be deleted through the API
// (dossier Novi §4).
func (d contacts) remove(ctx context.Context, ref apply.Ref) error {
	r, err := d.readToUpdate(ctx, ref)
	if err != nil {
		return err
	}
	if err := d.whole("deactivate member", r.Record); err != nil {
		return err
	}
	var member map[string]json.RawMessage
	if err := json.Unmarshal(r.Record, &member); err != nil || member == nil {
		return &apierr.Error{System: "novi", Op: "deactivate member", Class: apierr.Invalid, Message: "the member as read is not of the expected shape", Err: err}
	}
	member["Active"] = json.RawMessage("false")
	body, err := json.Marshal(member)
	if err != nil {
		return err
	}
	_, err = d.client.PutMember(ctx, budget.Live, string(ref.ID), body)
	return err
}
