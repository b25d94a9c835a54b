package ghlsim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// change is what a caller wants to happen to a contact.
type change struct {
	loc       *location
	old, next *snapshot // nil: it did not exist; it is to be deleted
	actor     string
	// force commits an update that changes nothing.
	force bool
	// silent: it follows from a change of the location; it fires nothing and
	// leaves dateUpdated alone (invented, pessimistic).
	silent bool
}

// commit makes a change happen: stamps, indexes, ledger, webhooks. The caller
// holds mu and has checked everything. It returns the state after.
func (s *Server) commit(c change) *snapshot {
	now := s.conf.Now()
	changes, added, removed := diff(c.old, c.next)
	onlyTags := len(changes) == 0 && len(added)+len(removed) > 0
	unchanged := len(changes) == 0 && !onlyTags
	op := OpUpdate
	state, id := c.next, ""
	switch {
	case c.old == nil:
		op, id = OpCreate, c.next.id
		c.next.added = now.UnixMilli()
		c.next.updated = c.next.added
		s.where[id] = c.loc.conf.ID
		c.loc.contacts[id] = &history[snapshot]{}
	case c.next == nil:
		op, id, state = OpDelete, c.old.id, c.old
		s.orphan(c.loc, id, c.actor)
		delete(s.where, id)
		delete(c.loc.enrolled, id)
		c.loc.graves = append(c.loc.graves, grave{id: id, at: now})
	default:
		id = c.next.id
		if unchanged && !c.force {
			return c.old
		}
		if onlyTags {
			op = OpTags
		}
		if !c.silent && (!onlyTags || !s.conf.Quirks.TagsLeaveDateUpdated) {
			// Strictly rising, so that a poller that asks for "after the last
			// stamp seen" cannot miss a change within one millisecond.
			c.next.updated = max(now.UnixMilli(), c.old.updated+1)
		}
	}
	horizon := now.Add(-s.conf.IndexLag)
	c.loc.contacts[id].push(now, c.next, horizon)
	c.loc.reindex(c.old, c.next)
	c.loc.bury(horizon)
	for _, t := range added {
		s.knowTag(c.loc, t)
	}
	s.record(LedgerEntry{
		At: now, Actor: c.actor, Op: op, LocationID: c.loc.conf.ID,
		Kind: KindContact, RecordID: id, ContactID: id,
		DateUpdated: state.updated, Changes: changes, TagsAdded: added, TagsRemoved: removed,
	})
	if c.silent {
		return state
	}
	for _, typ := range s.events(c, op, changes, unchanged, onlyTags || len(added)+len(removed) > 0) {
		s.hooks.enqueue(s.payload(typ, c.loc, state), s.faults)
	}
	return state
}

// events names the webhooks of a change (dossier §5.2). Which of them a mixed
// change fires is INF.
func (s *Server) events(c change, op string, changes []FieldChange, unchanged, tags bool) []string {
	switch op {
	case OpCreate:
		return []string{"ContactCreate"}
	case OpDelete:
		return []string{"ContactDelete"}
	}
	update, dnd := unchanged, false
	for _, ch := range changes {
		switch {
		case ch.Field == "dnd" || ch.Field == "dndSettings":
			dnd = true
		case ch.Field == "inboundDndSettings":
			// Inbound-only changes fire nothing (#264).
		case strings.HasPrefix(ch.Field, "customFields."):
			f, _ := c.loc.customField(strings.TrimPrefix(ch.Field, "customFields."))
			update = update || f.DataType != "FILE_UPLOAD" // file edits fire nothing [DOC]
		default:
			update = true
		}
	}
	var out []string
	if tags {
		out = append(out, "ContactTagUpdate")
	}
	if dnd {
		out = append(out, "ContactDndUpdate")
	}
	if update || tags && s.conf.Quirks.TagsAlsoUpdate {
		out = append(out, "ContactUpdate")
	}
	return out
}

// newSnapshot returns an empty contact of loc with a new id.
func (s *Server) newSnapshot(loc *location) *snapshot {
	return &snapshot{
		id: s.rng.id(), location: loc.conf.ID,
		fields: map[string]any{"type": "lead"}, custom: map[string]any{},
	}
}

// EditKind says what an Edit does.
type EditKind string

// The kinds of Edit.
const (
	EditCreate     EditKind = "create"
	EditUpdate     EditKind = "update"
	EditAddTags    EditKind = "addTags"
	EditRemoveTags EditKind = "removeTags"
	EditDelete     EditKind = "delete"
)

// Edit is something that a human does in the user interface.
type Edit struct {
	Kind       EditKind `json:"kind"`
	LocationID string   `json:"locationId"`
	// ContactID is required but for EditCreate.
	ContactID string `json:"contactId,omitempty"`
	// Fields of EditCreate and EditUpdate, by their API names, companyName
	// included; nil and "" clear. Custom fields are "customFields.<id or
	// key>", or the API's list under "customFields".
	Fields map[string]any `json:"fields,omitempty"`
	// Tags of EditCreate, EditAddTags and EditRemoveTags.
	Tags []string `json:"tags,omitempty"`
}

// Edit acts as a human in the user interface and returns the contact's id. An
// edit that changes nothing commits nothing. Errors: ErrNotFound, ErrInvalid,
// and ErrDuplicate, which comes with the id of the contact in the way.
func (s *Server) Edit(e Edit) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[e.LocationID]
	if loc == nil {
		return "", fmt.Errorf("edit in location %q: %w", e.LocationID, ErrNotFound)
	}
	old := loc.current(e.ContactID)
	if old == nil && e.Kind != EditCreate {
		return "", fmt.Errorf("edit contact %q: %w", e.ContactID, ErrNotFound)
	}
	c := change{loc: loc, old: old, actor: ActorHuman}
	switch e.Kind {
	case EditCreate:
		c.old, c.next = nil, s.newSnapshot(loc)
	case EditUpdate, EditAddTags, EditRemoveTags:
		c.next = old.clone()
	case EditDelete:
	default:
		return "", fmt.Errorf("edit kind %q: %w", e.Kind, ErrInvalid)
	}
	if e.Kind == EditCreate || e.Kind == EditUpdate {
		p, wrong := parse(e.Fields, opHuman, loc, Quirks{})
		for _, f := range p.unknown {
			wrong = append(wrong, fmt.Sprintf("no custom field %q", f))
		}
		if len(wrong) > 0 {
			return "", fmt.Errorf("edit in location %s: %s: %w", e.LocationID, strings.Join(wrong, "; "), ErrInvalid)
		}
		p.apply(c.next, true)
		if o, field := loc.duplicate(c.old, c.next); o != nil {
			return o.id, fmt.Errorf("edit in location %s: %s belongs to contact %s: %w", e.LocationID, field, o.id, ErrDuplicate)
		}
	}
	switch e.Kind {
	case EditCreate, EditAddTags:
		c.next.tags = normalTags(append(c.next.tags, e.Tags...))
	case EditRemoveTags:
		c.next.tags = without(c.next.tags, normalTags(e.Tags))
	}
	id := e.ContactID
	if c.next != nil {
		// What was parsed may share values with the caller's maps.
		for k, v := range c.next.fields {
			c.next.fields[k] = deepCopy(v)
		}
		for k, v := range c.next.custom {
			c.next.custom[k] = deepCopy(v)
		}
		id = c.next.id
	}
	s.commit(c)
	return id, nil
}

// create, update, … are the API's writes.

func (s *Server) create(q *request) reply {
	p, wrong := parse(q.body, opCreate, q.loc, s.conf.Quirks)
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	if p.locationID != q.loc.conf.ID {
		return forbidden()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.loc.conf.ID]
	next := s.newSnapshot(loc)
	if r, bad := s.apply(loc, nil, next, &p); bad {
		return r
	}
	next = s.commit(change{loc: loc, next: next, actor: ActorAPI})
	return reply{status: 201, body: map[string]any{"contact": render(loc, next)}, committed: true, created: true}
}

// apply writes p onto next and answers what keeps it from being committed.
func (s *Server) apply(loc *location, old, next *snapshot, p *patch) (reply, bool) {
	if len(p.unknown) > 0 && s.conf.Quirks.UnknownCustomField400 {
		return failure(400, "Custom field "+p.unknown[0]+" not found"), true
	}
	p.apply(next, false)
	if o, field := loc.duplicate(old, next); o != nil {
		r := failure(400, "This location does not allow duplicated contacts.")
		r.body["meta"] = map[string]any{"contactId": o.id, "contactName": o.name(), "matchingField": field}
		return r, true
	}
	return reply{}, false
}

func (s *Server) update(q *request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, old, r := s.find(q)
	if old == nil {
		return r
	}
	p, wrong := parse(q.body, opUpdate, loc, s.conf.Quirks)
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	next := old.clone()
	if r, bad := s.apply(loc, old, next, &p); bad {
		return r
	}
	next = s.commit(change{loc: loc, old: old, next: next, actor: ActorAPI, force: !s.conf.Quirks.QuietUnchangedPut})
	return reply{status: 200, body: map[string]any{"succeded": true, "contact": render(loc, next)}, committed: true}
}

func (s *Server) upsert(q *request) reply {
	p, wrong := parse(q.body, opUpsert, q.loc, s.conf.Quirks)
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	if p.locationID != q.loc.conf.ID {
		return forbidden()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc := s.locations[q.loc.conf.ID]
	var old *snapshot
	if !p.createNew || !loc.conf.AllowDuplicates {
		for _, f := range loc.conf.UniqueFields {
			if v, _ := p.fields[f].(string); old == nil {
				old = loc.owner(f, v, "")
			}
		}
	}
	c := change{loc: loc, old: old, actor: ActorAPI, force: !s.conf.Quirks.QuietUnchangedPut}
	if old == nil {
		c.next = s.newSnapshot(loc)
	} else {
		c.next = old.clone()
		// A unique field that another contact owns is silently ignored (#37).
		for _, f := range loc.conf.UniqueFields {
			v, _ := p.fields[f].(string)
			if !loc.conf.AllowDuplicates && v != old.str(f) && loc.owner(f, v, old.id) != nil {
				delete(p.fields, f)
			}
		}
	}
	if r, bad := s.apply(loc, old, c.next, &p); bad {
		return r
	}
	next := s.commit(c)
	return reply{
		status: 200, body: map[string]any{"new": old == nil, "contact": render(loc, next)},
		committed: true, created: old == nil,
	}
}

func (s *Server) remove(q *request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, old, r := s.find(q)
	if old == nil {
		return r
	}
	s.commit(change{loc: loc, old: old, actor: ActorAPI})
	return reply{status: 200, body: map[string]any{"succeded": true}, committed: true}
}

func (s *Server) addTags(q *request) reply {
	return s.editTags(q, 201, func(have, tags []string) []string { return normalTags(append(have, tags...)) })
}

func (s *Server) removeTags(q *request) reply { return s.editTags(q, 200, without) }

// editTags answers with the tags after; present and absent tags are no-ops
// [INF], and commit nothing when all are.
func (s *Server) editTags(q *request, status int, edit func(have, tags []string) []string) reply {
	tags, wrong := tagsBody(q.body)
	if len(wrong) > 0 {
		return unprocessable(wrong)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, old, r := s.find(q)
	if old == nil {
		return r
	}
	next := old.clone()
	next.tags = edit(next.tags, tags)
	added, removed := without(next.tags, old.tags), without(old.tags, next.tags)
	next = s.commit(change{loc: loc, old: old, next: next, actor: ActorAPI})
	body := map[string]any{"tags": orEmpty(next.tags)}
	if s.conf.Quirks.TagDeltasInReply {
		body["tagsAdded"], body["tagsRemoved"] = orEmpty(added), orEmpty(removed)
	}
	return reply{status: status, body: body, committed: true}
}

// tagsBody reads {"tags": [...]}, which allows no other key [OBS].
func tagsBody(body map[string]any) (tags []string, wrong []string) {
	for k := range body {
		if k != "tags" {
			wrong = append(wrong, "property "+k+" should not exist")
		}
	}
	slices.Sort(wrong)
	list, ok := stringList(body["tags"])
	if !ok {
		wrong = append(wrong, "each value in tags must be a string", "tags must be an array")
	}
	return normalTags(list), wrong
}

func orEmpty(tags []string) []string {
	if tags == nil {
		return []string{}
	}
	return tags
}

// find returns the contact of a request, or the reply that says why not. The
// caller holds mu.
func (s *Server) find(q *request) (*location, *snapshot, reply) {
	where, ok := s.where[q.id]
	if !ok {
		return nil, nil, failure(400, "Contact with id "+q.id+" not found")
	}
	if where != q.loc.conf.ID {
		return nil, nil, forbidden()
	}
	loc := s.locations[where]
	return loc, loc.current(q.id), reply{}
}

// indexTime is the moment whose state search shows.
func (s *Server) indexTime() time.Time { return s.conf.Now().Add(-s.conf.IndexLag) }
