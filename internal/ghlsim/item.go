package ghlsim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// item is one state of a task, note or appointment, the records that belong to
// a contact. It is never changed after commit.
type item struct {
	kind, id, contact string
	fields            map[string]any // as stored, never an empty value
	added, updated    int64          // epoch ms
	order             int64          // of creation
}

// clone returns a copy whose fields may be set.
func (x *item) clone() *item {
	c := *x
	c.fields = maps.Clone(x.fields)
	return &c
}

func (x *item) str(field string) string {
	v, _ := x.fields[field].(string)
	return v
}

// family is all items of one kind that belong to one contact.
type family struct{ contact, kind string }

func (x *item) family() family { return family{x.contact, x.kind} }

// link and unlink keep the index of the items of a contact.
func (l *location) link(f family, id string) { l.byContact[f] = append(l.byContact[f], id) }

func (l *location) unlink(f family, id string) {
	l.byContact[f] = slices.DeleteFunc(l.byContact[f], func(x string) bool { return x == id })
	if len(l.byContact[f]) == 0 {
		delete(l.byContact, f)
	}
}

// item returns the live item with that id, nil if there is none.
func (l *location) item(id string) *item {
	if h := l.items[id]; h != nil {
		return h.current()
	}
	return nil
}

// itemsOf returns the live items of a family, oldest first.
func (l *location) itemsOf(f family) []*item {
	var out []*item
	for _, id := range l.byContact[f] {
		if x := l.item(id); x != nil {
			out = append(out, x)
		}
	}
	return out
}

// itemChange is what a caller wants to happen to an item.
type itemChange struct {
	loc       *location
	old, next *item // nil: it did not exist; it is to be deleted
	actor     string
	// force commits an update that changes nothing.
	force bool
	// silent: it follows from a change of a contact and fires nothing (invented).
	silent bool
}

// commitItem is commit for items.
func (s *Server) commitItem(c itemChange) *item {
	now := s.conf.Now()
	op, state := OpUpdate, c.next
	var from, to map[string]any
	if c.old != nil {
		from = c.old.fields
	}
	if c.next != nil {
		to = c.next.fields
	}
	changes := fieldChanges("", from, to)
	switch {
	case c.old == nil:
		op = OpCreate
		c.next.id, c.next.order = s.rng.id(), s.seq
		c.next.added, c.next.updated = now.UnixMilli(), now.UnixMilli()
		s.itemAt[c.next.id] = c.loc.conf.ID
		c.loc.items[c.next.id] = &history[item]{}
		c.loc.link(c.next.family(), c.next.id)
	case c.next == nil:
		op, state = OpDelete, c.old
		delete(s.itemAt, c.old.id)
		c.loc.itemGraves = append(c.loc.itemGraves, grave{id: c.old.id, at: now, of: c.old.family()})
	default:
		if c.old.contact != c.next.contact {
			changes = append(changes, FieldChange{Field: "contactId", From: c.old.contact, To: c.next.contact})
			c.loc.unlink(c.old.family(), c.old.id)
			c.loc.link(c.next.family(), c.old.id)
		}
		if len(changes) == 0 && !c.force {
			return c.old
		}
		c.next.updated = max(now.UnixMilli(), c.old.updated+1)
	}
	slices.SortFunc(changes, func(a, b FieldChange) int { return cmp.Compare(a.Field, b.Field) })
	horizon := now.Add(-s.conf.IndexLag)
	c.loc.items[state.id].push(now, c.next, horizon)
	c.loc.bury(horizon)
	s.record(LedgerEntry{
		At: now, Actor: c.actor, Op: op, LocationID: c.loc.conf.ID, Kind: state.kind, RecordID: state.id, ContactID: state.contact,
		DateUpdated: state.updated, Changes: changes,
	})
	if typ := c.event(op); typ != "" && !c.silent {
		s.hooks.enqueue(s.itemPayload(typ, c.loc, state), s.faults)
	}
	return state
}

// event names the webhook of a change; none tells of an edited or reopened
// task (dossier §5.2).
func (c itemChange) event(op string) string {
	x := cmp.Or(c.next, c.old)
	if x.kind == KindTask && op == OpUpdate {
		if c.old.fields["completed"] == true || c.next.fields["completed"] != true {
			return ""
		}
		return "TaskComplete"
	}
	return kinds[x.kind].title + strings.ToUpper(op[:1]) + op[1:]
}

// itemPayload makes the body of an event about x.
func (s *Server) itemPayload(typ string, loc *location, x *item) map[string]any {
	body := s.envelope(typ, loc)
	all := maps.Clone(x.fields)
	all["contactId"], all["dateAdded"] = x.contact, stamp(x.added)
	var keys []string
	inner := body
	switch x.kind {
	case KindTask:
		keys = []string{"assignedTo", "title", "dateAdded", "dueDate"}
		if typ != "TaskCreate" || s.conf.Quirks.FullTaskCreate {
			keys = append(keys, "body", "contactId")
		}
	case KindNote:
		keys = []string{"body", "contactId", "dateAdded"} // a closed list [STAFF #312]
	case KindAppointment:
		keys = []string{"address", "title", "calendarId", "contactId", "groupId", "appointmentStatus", "assignedUserId", "notes", "source", "startTime", "endTime"}
		setOrClear(all, "notes", x.fields["description"])
		inner = map[string]any{"dateAdded": stamp(x.added), "dateUpdated": stamp(x.updated), "users": []any{}}
		body["appointment"] = inner
	}
	inner["id"] = x.id
	for _, k := range keys {
		if v, ok := all[k]; ok {
			inner[k] = v
		} else if s.conf.Quirks.NullWebhookKeys {
			inner[k] = nil
		}
	}
	return body
}

// orphan deletes what belongs to a contact that is about to go (invented).
func (s *Server) orphan(loc *location, contactID, actor string) {
	for _, x := range loc.belongings(contactID) {
		s.commitItem(itemChange{loc: loc, old: x, actor: actor, silent: true})
	}
}

// belongings returns all live items of a contact.
func (l *location) belongings(contactID string) []*item {
	var out []*item
	for _, kind := range []string{KindTask, KindNote, KindAppointment} {
		out = append(out, l.itemsOf(family{contactID, kind})...)
	}
	return out
}

// Item is the state of one task, note or appointment.
type Item struct {
	Kind      string `json:"kind"`
	ID        string `json:"id"`
	ContactID string `json:"contactId"`
	// Fields are what is stored, by the API's names, less id, contactId and
	// stamps. Empty fields are absent.
	Fields map[string]any `json:"fields"`
}

// Items returns copies of a location's items of one kind, or of all kinds if
// kind is empty, sorted by id.
func (s *Server) Items(locationID, kind string) []Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Item{}
	loc := s.locations[locationID]
	if loc == nil {
		return out
	}
	for _, h := range loc.items {
		if x := h.current(); x != nil && (kind == "" || x.kind == kind) {
			fields, _ := deepCopy(x.fields).(map[string]any)
			out = append(out, Item{Kind: x.kind, ID: x.id, ContactID: x.contact, Fields: fields})
		}
	}
	slices.SortFunc(out, func(a, b Item) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// ItemEdit is something that a human does to a task, note or appointment in
// the user interface.
type ItemEdit struct {
	Kind       string `json:"kind"` // KindTask, KindNote or KindAppointment
	Op         string `json:"op"`   // OpCreate, OpUpdate or OpDelete
	LocationID string `json:"locationId"`
	// ContactID is required for OpCreate; elsewhere it may be empty.
	ContactID string `json:"contactId,omitempty"`
	ID        string `json:"id,omitempty"`
	// Fields by their API names; nil clears. A task is completed and reopened
	// by its field completed.
	Fields map[string]any `json:"fields,omitempty"`
}

// EditItem acts as a human in the user interface and returns the item's id. An
// edit that changes nothing commits nothing. Errors: ErrNotFound, ErrInvalid.
func (s *Server) EditItem(e ItemEdit) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	loc, kind := s.locations[e.LocationID], kinds[e.Kind]
	switch {
	case kind == nil:
		return "", fmt.Errorf("edit item of kind %q: %w", e.Kind, ErrInvalid)
	case loc == nil:
		return "", fmt.Errorf("edit %s in location %q: %w", e.Kind, e.LocationID, ErrNotFound)
	}
	c := itemChange{loc: loc, actor: ActorHuman}
	if e.Op == OpCreate {
		if loc.current(e.ContactID) == nil {
			return "", fmt.Errorf("create %s of contact %q: %w", e.Kind, e.ContactID, ErrNotFound)
		}
		c.next = &item{kind: e.Kind, contact: e.ContactID, fields: map[string]any{}}
	} else {
		c.old = loc.item(e.ID)
		if c.old == nil || c.old.kind != e.Kind || e.ContactID != "" && e.ContactID != c.old.contact {
			return "", fmt.Errorf("edit %s %q: %w", e.Kind, e.ID, ErrNotFound)
		}
	}
	switch e.Op {
	case OpUpdate:
		c.next = c.old.clone()
	case OpCreate, OpDelete:
	default:
		return "", fmt.Errorf("edit %s: op %q: %w", e.Kind, e.Op, ErrInvalid)
	}
	if c.next != nil {
		body, _ := deepCopy(e.Fields).(map[string]any)
		if _, said := body["completed"]; e.Op == OpCreate && e.Kind == KindTask && !said {
			body = maps.Clone(body)
			if body == nil {
				body = map[string]any{}
			}
			body["completed"] = false
		}
		fields, wrong := kind.rules.parse(loc, body, parsing{whole: e.Op == OpCreate, human: true})
		if len(wrong) == 0 {
			wrong = kind.put(c.next, fields)
		}
		if len(wrong) > 0 {
			return "", fmt.Errorf("edit %s in location %s: %s: %w", e.Kind, e.LocationID, strings.Join(wrong, "; "), ErrInvalid)
		}
	}
	return s.commitItem(c).id, nil
}

// Merge does what a human does who merges two contacts: what belongs to the
// loser goes to the winner, the loser is deleted, and the winner gets its tags
// and those of its fields that the winner lacks. It fires what a deletion and
// an update fire (all invented; the real system documents no merge event).
// Errors: ErrNotFound, ErrInvalid.
func (s *Server) Merge(locationID, winner, loser string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if winner == loser {
		return fmt.Errorf("merge contact %q with itself: %w", winner, ErrInvalid)
	}
	loc := s.locations[locationID]
	if loc == nil {
		return fmt.Errorf("merge in location %q: %w", locationID, ErrNotFound)
	}
	old, gone := loc.current(winner), loc.current(loser)
	if old == nil || gone == nil {
		return fmt.Errorf("merge contact %q into %q: %w", loser, winner, ErrNotFound)
	}
	for _, x := range loc.belongings(loser) {
		moved := x.clone()
		moved.contact = winner
		s.commitItem(itemChange{loc: loc, old: x, next: moved, actor: ActorHuman, silent: true})
	}
	s.commit(change{loc: loc, old: gone, actor: ActorHuman})
	next := old.clone()
	for field, v := range gone.fields {
		if _, has := next.fields[field]; !has {
			next.fields[field] = v
		}
	}
	for id, v := range gone.custom {
		if _, has := next.custom[id]; !has {
			next.custom[id] = v
		}
	}
	next.tags = normalTags(append(next.tags, gone.tags...))
	s.commit(change{loc: loc, old: old, next: next, actor: ActorHuman})
	return nil
}
