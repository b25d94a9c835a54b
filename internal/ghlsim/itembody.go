package ghlsim

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// itemKind is what tasks, notes and appointments differ in.
type itemKind struct {
	name      string
	one, many string // keys of replies
	title     string // in messages and events
	rules     itemRules
	// show renders an item as GET shows it, less what all kinds have.
	show func(*location, *item) map[string]any
}

var (
	tasks = &itemKind{name: KindTask, one: "task", many: "tasks", title: "Task", rules: taskRules,
		show: func(*location, *item) map[string]any { return map[string]any{} }} // no stamps
	notes = &itemKind{name: KindNote, one: "note", many: "notes", title: "Note", rules: noteRules,
		show: func(_ *location, x *item) map[string]any { return map[string]any{"dateAdded": stamp(x.added)} }}
	appointments = &itemKind{name: KindAppointment, one: "event", many: "events", title: "Appointment", rules: appointmentRules,
		show: showAppointment}

	kinds = map[string]*itemKind{KindTask: tasks, KindNote: notes, KindAppointment: appointments}
)

// render is an item of a reply; empty keys are left out [INF].
func (k *itemKind) render(loc *location, x *item) map[string]any {
	out := maps.Clone(x.fields)
	maps.Copy(out, k.show(loc, x))
	out["id"], out["contactId"] = x.id, x.contact
	return out
}

// put writes parsed fields onto x, which must be a fresh clone, and says what
// is wrong with the whole. A slot without an end is half an hour (invented).
func (k *itemKind) put(x *item, fields map[string]any) []string {
	for key, v := range fields {
		setOrClear(x.fields, key, v)
	}
	if k != appointments {
		return nil
	}
	if _, ok := x.fields["appointmentStatus"]; !ok {
		x.fields["appointmentStatus"] = "confirmed" // invented
	}
	start, _ := time.Parse(time.RFC3339, x.str("startTime")) // parse has checked both
	if x.str("endTime") == "" {
		x.fields["endTime"] = start.Add(30 * time.Minute).Format(time.RFC3339)
	}
	if end, _ := time.Parse(time.RFC3339, x.str("endTime")); !end.After(start) {
		return []string{"endTime must be after startTime"}
	}
	return nil
}

// itemRule is one key of a body (dossier §3.7, §3.9, §3.11 [DOC]).
type itemRule struct {
	// check returns the value as it is stored, or what it must be.
	check    func(loc *location, v any) (any, string)
	required bool // at creation; it can't be cleared later
	nullable bool
	// discard: it says how to do it, and is not stored.
	discard bool
}

type itemRules map[string]itemRule

var (
	taskRules = itemRules{
		"title":      {check: isText, required: true},
		"body":       {check: isText},
		"dueDate":    {check: isInstant, required: true},
		"completed":  {check: isTruth, required: true},
		"assignedTo": {check: isUser, nullable: true},
	}
	completedRules = itemRules{"completed": taskRules["completed"]}
	noteRules      = itemRules{
		"body":   {check: isText, required: true},
		"userId": {check: isUser},
		"title":  {check: isText},
		"color":  {check: isColor},
		"pinned": {check: isTruth},
	}
	appointmentRules = itemRules{
		"calendarId":               {check: isCalendar, required: true},
		"startTime":                {check: isMoment, required: true},
		"endTime":                  {check: isMoment},
		"title":                    {check: isText},
		"description":              {check: isText},
		"address":                  {check: isText},
		"assignedUserId":           {check: isUser},
		"meetingLocationType":      {check: oneOf("custom", "zoom", "gmeet", "phone", "address", "ms_teams", "google")},
		"meetingLocationId":        {check: isText},
		"appointmentStatus":        {check: oneOf("new", "confirmed", "cancelled", "showed", "noshow", "invalid")},
		"rrule":                    {check: isText},
		"overrideLocationConfig":   {check: isTruth, discard: true},
		"ignoreDateRange":          {check: isTruth, discard: true},
		"toNotify":                 {check: isTruth, discard: true},
		"ignoreFreeSlotValidation": {check: isTruth, discard: true},
	}
)

// parsing says how a body is read.
type parsing struct {
	whole  bool // every required key must be there
	human  bool // null clears whatever is not required
	noDues bool // a dueDate must have no fractions of a second
}

// parse checks body against the whitelist and normalises its values. The
// messages are those of a 422.
func (rules itemRules) parse(loc *location, body map[string]any, how parsing) (map[string]any, []string) {
	fields := map[string]any{}
	var unknown, wrong []string
	for _, key := range slices.Sorted(maps.Keys(body)) {
		r, ok := rules[key]
		v := body[key]
		if !ok {
			unknown = append(unknown, "property "+key+" should not exist")
			continue
		}
		if v == nil && !r.required && (r.nullable || how.human) {
			fields[key] = nil
			continue
		}
		stored, must := r.check(loc, v)
		if s, text := v.(string); text && key == "dueDate" && how.noDues && strings.Contains(s, ".") {
			must = isInstantText
		}
		switch {
		case must != "":
			wrong = append(wrong, key+" "+must)
		case r.required && stored == "":
			wrong = append(wrong, key+" should not be empty")
		case !r.discard:
			fields[key] = stored
		}
	}
	for _, key := range slices.Sorted(maps.Keys(rules)) {
		if _, sent := body[key]; how.whole && rules[key].required && !sent {
			_, must := rules[key].check(loc, nil)
			wrong = append(wrong, key+" "+must, key+" should not be empty")
		}
	}
	return fields, append(unknown, wrong...)
}

// The texts of these messages are invented.

func isText(_ *location, v any) (any, string) {
	if _, ok := v.(string); !ok {
		return nil, "must be a string"
	}
	return v, ""
}

func isTruth(_ *location, v any) (any, string) {
	if _, ok := v.(bool); !ok {
		return nil, "must be a boolean value"
	}
	return v, ""
}

const isInstantText = "must be a valid ISO 8601 date string"

// isInstant stores an instant as the API shows a dueDate.
func isInstant(_ *location, v any) (any, string) {
	s, _ := v.(string)
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return nil, isInstantText
	}
	return stamp(t.UnixMilli()), ""
}

// isMoment stores an instant with the offset in which it was sent; "" clears.
func isMoment(_ *location, v any) (any, string) {
	s, ok := v.(string)
	if ok && s == "" {
		return "", ""
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return nil, isInstantText
	}
	return t.Truncate(time.Second).Format(time.RFC3339), ""
}

// isUser: who is named must work in the location [INF].
func isUser(loc *location, v any) (any, string) {
	s, ok := v.(string)
	switch {
	case !ok:
		return nil, "must be a string"
	case s != "" && !slices.ContainsFunc(loc.conf.Users, func(u User) bool { return u.ID == s }):
		return nil, "must be a user of the location"
	}
	return s, ""
}

func isCalendar(loc *location, v any) (any, string) {
	s, ok := v.(string)
	switch {
	case !ok:
		return nil, "must be a string"
	case s != "" && !slices.Contains(loc.conf.Calendars, s):
		return nil, "must be a calendar of the location"
	}
	return s, ""
}

var colorShape = regexp.MustCompile(`^#([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})$`)

func isColor(_ *location, v any) (any, string) {
	s, ok := v.(string)
	if !ok || s != "" && !colorShape.MatchString(s) {
		return nil, "must be a hexadecimal color"
	}
	return s, ""
}

func oneOf(values ...string) func(*location, any) (any, string) {
	return func(_ *location, v any) (any, string) {
		s, ok := v.(string)
		if !ok || !slices.Contains(values, s) {
			return nil, "must be one of the following values: " + strings.Join(values, ", ")
		}
		return s, ""
	}
}
