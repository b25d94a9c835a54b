package novi

import (
	"context"
	"errors"
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

// Destination is one Novi site.
type Destination struct {
	client *noviapi.Client
	lens   *mapping.Lens
}

// New returns the site that client speaks to.
func New(client *noviapi.Client, lens *mapping.Lens) *Destination {
	return &Destination{client: client, lens: lens}
}

// ReadsFirst is true: a PUT needs the whole member.
func (d *Destination) ReadsFirst() bool { return true }

func reading(r noviapi.Record) apply.Reading {
	return apply.Reading{External: canonical.ExternalID(r.ID), Endpoint: observation.NoviMemberGet, Record: r.Raw, ReadBegan: r.ReadBegan, Modified: r.Modified}
}

// Read returns the member as it is now.
func (d *Destination) Read(ctx context.Context, id canonical.ExternalID) (apply.Reading, error) {
	r, err := d.client.GetMember(ctx, budget.Live, string(id))
	if err != nil {
		return apply.Reading{}, err
	}
	return reading(r), nil
}

// ReadToUpdate returns the member as it is now; the calls of the read and of
// the write are taken from the budget together.
func (d *Destination) ReadToUpdate(ctx context.Context, id canonical.ExternalID) (apply.Reading, error) {
	r, err := d.client.GetMemberToPut(ctx, budget.Live, string(id))
	if err != nil {
		return apply.Reading{}, err
	}
	return reading(r), nil
}

// Find looks the member up by e-mail, else by name, and takes the one that
// carries the reference that Create leaves, or whose e-mail is the contact's.
func (d *Destination) Find(ctx context.Context, c canonical.Contact) (apply.Reading, bool, error) {
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
				found, err := d.Read(ctx, canonical.ExternalID(r.ID))
				return found, err == nil, err
			}
		}
	}
	return apply.Reading{}, false, nil
}

// isOf reports whether a member was made for c, or has its e-mail address.
func (d *Destination) isOf(r noviapi.Record, c canonical.Contact) bool {
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

// Create makes the member, unless one is there that a person made with the
// same e-mail: that is a Duplicate. Then it reads what it has made.
func (d *Destination) Create(ctx context.Context, c canonical.Contact, p plan.Plan) ([]apply.Reading, error) {
	if c.Email != "" {
		if r, found, err := d.Find(ctx, c); err != nil {
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
	return d.reread(ctx, canonical.ExternalID(r.ID))
}

func (d *Destination) newMember(c canonical.Contact, p plan.Plan, name string) (json.RawMessage, error) {
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

// Update lays p over the member as just read and writes it back whole, then
// reads what it came to.
func (d *Destination) Update(ctx context.Context, c canonical.Contact, p plan.Plan, now apply.Reading) ([]apply.Reading, error) {
	if len(now.Record) == 0 {
		return nil, errors.New("update novi member: the member was not read first")
	}
	body, err := d.lens.Of(c).NoviOverlay(now.Record, p.Fields, p.Tags)
	if err != nil {
		return nil, &apierr.Error{System: "novi", Op: "update member", Class: apierr.Invalid, Message: err.Error(), Err: err}
	}
	if _, err := d.client.PutMember(ctx, budget.Live, string(p.External), body); err != nil {
		return nil, err
	}
	return d.reread(ctx, p.External)
}

// reread shows what a write came to. That the record can't be read after a
// write that was accepted leaves it open what it shows.
func (d *Destination) reread(ctx context.Context, id canonical.ExternalID) ([]apply.Reading, error) {
	r, err := d.Read(ctx, id)
	if err != nil {
		return nil, &apierr.Error{System: "novi", Op: "read member after write", Class: apierr.Ambiguous, Err: err}
	}
	return []apply.Reading{r}, nil
}
