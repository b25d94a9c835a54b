package ghlsim

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"
)

// operation is what a contact body is for; each has its own whitelist.
type operation int

const (
	opCreate operation = iota
	opUpdate
	opUpsert
	opHuman
)

type kind int

const (
	kindString kind = iota
	kindDiscard
	kindEmail
	kindPhone
	kindBirth
	kindBool
	kindTags
	kindCustom
	kindDND
	kindInbound
	kindLocation
	kindFlag
)

// rule is one row of the request table of dossier §3.1: which operations
// declare the field, and which of them declare it nullable [DOC].
type rule struct {
	kind     kind
	in       []operation
	nullable []operation
}

var (
	inAll     = []operation{opCreate, opUpdate, opUpsert, opHuman}
	inCreates = []operation{opCreate, opUpsert, opHuman}
	human     = []operation{opHuman}
	putOnly   = []operation{opUpdate, opHuman}
)

var rules = map[string]rule{
	"locationId":                  {kindLocation, []operation{opCreate, opUpsert}, nil},
	"firstName":                   {kindString, inAll, inAll},
	"lastName":                    {kindString, inAll, inAll},
	"name":                        {kindString, inAll, inAll},
	"email":                       {kindEmail, inAll, inAll},
	"phone":                       {kindPhone, inAll, inAll},
	"address1":                    {kindString, inAll, inAll},
	"city":                        {kindString, inAll, inAll},
	"state":                       {kindString, inAll, inAll},
	"website":                     {kindString, inAll, inAll},
	"timezone":                    {kindString, inAll, inAll},
	"postalCode":                  {kindString, inAll, human},
	"country":                     {kindString, inAll, human},
	"companyName":                 {kindString, inCreates, inCreates},
	"gender":                      {kindDiscard, inCreates, human},
	"source":                      {kindString, inAll, putOnly},
	"assignedTo":                  {kindString, inAll, putOnly},
	"type":                        {kindString, human, nil},
	"businessId":                  {kindString, human, human},
	"dnd":                         {kindBool, inAll, human},
	"dndSettings":                 {kindDND, inAll, human},
	"inboundDndSettings":          {kindInbound, inAll, human},
	"tags":                        {kindTags, inAll, human},
	"customFields":                {kindCustom, inAll, nil},
	"dateOfBirth":                 {kindBirth, inAll, inAll},
	"createNewIfDuplicateAllowed": {kindFlag, []operation{opUpsert}, nil},
}

// patch is a body that was understood. A nil or empty value clears.
type patch struct {
	locationID string
	fields     map[string]any
	custom     map[string]any
	dnd        map[string]any // per channel; merged
	dndSet     bool           // dnd is to be replaced as a whole (human only)
	tags       []string
	tagsSet    bool
	createNew  bool
	unknown    []string // custom fields that the location lacks
}

// parse checks body against the whitelist of op and normalises its values for
// loc, which may be nil if only the location id matters. The messages are
// those of a 422.
func parse(body map[string]any, op operation, loc *location, q Quirks) (patch, []string) {
	p := patch{fields: map[string]any{}, custom: map[string]any{}}
	keys := make([]string, 0, len(body))
	for k := range body {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var unknown, wrong []string
	for _, k := range keys {
		r, ok := rules[k]
		if !ok || !slices.Contains(r.in, op) {
			if op == opHuman && strings.HasPrefix(k, "customFields.") {
				p.putCustom(strings.TrimPrefix(k, "customFields."), body[k], loc)
				continue
			}
			if k == "companyName" && op == opUpdate && q.IgnoreCompanyNameOnPut {
				continue
			}
			unknown = append(unknown, "property "+k+" should not exist")
			continue
		}
		v := body[k]
		if v == nil && slices.Contains(r.nullable, op) {
			switch r.kind {
			case kindTags:
				p.tagsSet = true
			case kindDND:
				p.dndSet = true
			case kindDiscard:
			default:
				p.fields[k] = nil
			}
			continue
		}
		wrong = append(wrong, p.put(k, r.kind, v, loc, q)...)
	}
	if (op == opCreate || op == opUpsert) && body["locationId"] == nil {
		if _, sent := body["locationId"]; !sent {
			wrong = append(wrong, "locationId must be a string")
		}
		wrong = append(wrong, "locationId should not be empty")
	}
	p.splitName()
	return p, append(unknown, wrong...)
}

// put reads one value that is not a clearing null.
func (p *patch) put(key string, k kind, v any, loc *location, q Quirks) []string {
	switch k {
	case kindBool, kindFlag:
		b, ok := v.(bool)
		if !ok {
			return []string{key + " must be a boolean value"}
		}
		if k == kindFlag {
			p.createNew = b
		} else {
			p.fields[key] = b
		}
		return nil
	case kindTags:
		tags, ok := stringList(v)
		if !ok {
			return []string{"each value in " + key + " must be a string", key + " must be an array"}
		}
		p.tags, p.tagsSet = normalTags(tags), true
		return nil
	case kindCustom:
		return p.putCustomList(v, loc)
	case kindDND:
		return p.putDND(v)
	case kindInbound:
		return p.putInbound(v)
	}
	s, ok := v.(string)
	if !ok {
		return []string{key + " must be a string"}
	}
	s = strings.TrimSpace(s)
	switch k {
	case kindDiscard:
	case kindLocation:
		if s == "" {
			return []string{key + " should not be empty"}
		}
		p.locationID = s
	case kindEmail:
		if s != "" && !emailShape.MatchString(s) {
			return []string{key + " must be an email"}
		}
		p.fields[key] = strings.ToLower(s)
	case kindPhone:
		phone, ok := normalPhone(s, loc)
		if !ok && q.RejectBadPhone {
			return []string{key + " must be a valid phone number"}
		}
		p.fields[key] = phone
	case kindBirth:
		if s == "" {
			p.fields[key] = nil
			return nil
		}
		t, ok := readBirth(s)
		if !ok {
			return []string{key + " must be a valid date"}
		}
		p.fields[key] = stamp(t.UnixMilli())
	default:
		p.fields[key] = s
	}
	return nil
}

var emailShape = regexp.MustCompile(`^[^@\s,;<>"]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?\.[A-Za-z]{2,}$`)

// normalPhone returns s as E.164, read in the location's country, and whether
// it could be read; what cannot be read is returned as it is.
func normalPhone(s string, loc *location) (string, bool) {
	if s == "" {
		return "", true
	}
	country := "US"
	if loc != nil {
		country = loc.conf.Country
	}
	n, err := phonenumbers.Parse(s, country)
	if err != nil || !phonenumbers.IsPossibleNumber(n) {
		return s, false
	}
	return phonenumbers.Format(n, phonenumbers.E164), true
}

// readBirth reads the formats of dossier §3.1: year first or month first, with
// - / . or _ between the parts [DOC].
func readBirth(s string) (time.Time, bool) {
	for _, sep := range []string{"-", "/", ".", "_"} {
		if strings.Count(s, sep) != 2 {
			continue
		}
		s = strings.ReplaceAll(s, sep, "-")
		for _, layout := range []string{"2006-01-02", "01-02-2006"} {
			if t, err := time.Parse(layout, s); err == nil {
				return t, true
			}
		}
		return time.Time{}, false
	}
	return time.Time{}, false
}

// normalTags trims, lower-cases [OBS] and removes repeats and empty ones.
func normalTags(tags []string) []string {
	out := make([]string, 0, len(tags))
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		t = strings.ToLower(strings.TrimSpace(t))
		if t == "" || seen[t] {
			continue
		}
		seen[t] = true
		out = append(out, t)
	}
	return out
}

func stringList(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		if list, ok := v.([]string); ok {
			return list, true
		}
		return nil, false
	}
	out := make([]string, len(list))
	for i, x := range list {
		if out[i], ok = x.(string); !ok {
			return nil, false
		}
	}
	return out, true
}

// putCustomList reads [{id|key, field_value|fieldValue|value}]. One malformed
// item fails the request [OBS, dossier §4.4].
func (p *patch) putCustomList(v any, loc *location) []string {
	list, ok := v.([]any)
	if !ok {
		return []string{"customFields must be an array"}
	}
	var wrong []string
	for i, x := range list {
		item, ok := x.(map[string]any)
		if !ok {
			wrong = append(wrong, "each value in nested property customFields must be either object or array")
			continue
		}
		before := len(wrong)
		keys := make([]string, 0, len(item))
		for k := range item {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		var value any
		name := ""
		for _, k := range keys {
			switch k {
			case "id", "key":
				s, ok := item[k].(string)
				if !ok {
					wrong = append(wrong, fmt.Sprintf("customFields.%d.%s must be a string", i, k))
				}
				if name == "" || k == "id" {
					name = s
				}
			case "field_value", "fieldValue", "value":
				if value == nil {
					value = item[k]
				}
			default:
				wrong = append(wrong, fmt.Sprintf("customFields.%d.property %s should not exist", i, k))
			}
		}
		if name == "" && len(wrong) == before {
			wrong = append(wrong, fmt.Sprintf("customFields.%d.id should not be empty", i))
		}
		if len(wrong) == before {
			p.putCustom(name, value, loc)
		}
	}
	return wrong
}

// putCustom notes a value for the field with that id or key.
func (p *patch) putCustom(name string, v any, loc *location) {
	if loc == nil {
		return
	}
	f, ok := loc.customField(name)
	if !ok {
		p.unknown = append(p.unknown, name)
		return
	}
	p.custom[f.ID] = customValue(f.DataType, v)
}

// customValue gives v the type that reads show for the data type, where it can
// (the coercion is invented; the types are dossier §4.4).
func customValue(dataType string, v any) any {
	switch dataType {
	case "NUMERICAL", "MONETORY":
		switch x := v.(type) {
		case string:
			if n, err := strconv.ParseFloat(strings.TrimSpace(x), 64); err == nil {
				return n
			}
		case int:
			return float64(x)
		}
	case "CHECKBOX", "MULTIPLE_OPTIONS":
		switch x := v.(type) {
		case string:
			if x != "" {
				return []any{x}
			}
		case []string:
			out := make([]any, len(x))
			for i, s := range x {
				out[i] = s
			}
			return out
		}
	case "TEXT", "LARGE_TEXT", "SINGLE_OPTIONS", "RADIO", "PHONE", "DATE":
		switch x := v.(type) {
		case float64:
			return strconv.FormatFloat(x, 'f', -1, 64)
		case int:
			return strconv.Itoa(x)
		case bool:
			return strconv.FormatBool(x)
		}
	}
	return v
}

var dndChannels = []string{"Call", "Email", "SMS", "WhatsApp", "GMB", "FB"}

// putDND reads {Email: {status, message?, code?}, …}.
func (p *patch) putDND(v any) []string {
	m, ok := v.(map[string]any)
	if !ok {
		return []string{"dndSettings must be an object"}
	}
	var wrong []string
	p.dnd = map[string]any{}
	for ch, x := range m {
		if !slices.Contains(dndChannels, ch) {
			wrong = append(wrong, "dndSettings.property "+ch+" should not exist")
			continue
		}
		setting, _ := x.(map[string]any)
		if status, _ := setting["status"].(string); status != "active" && status != "inactive" && status != "permanent" {
			wrong = append(wrong, "dndSettings."+ch+".status must be one of the following values: active, inactive, permanent")
			continue
		}
		out := map[string]any{}
		for k, val := range setting {
			s, ok := val.(string)
			switch {
			case k != "status" && k != "message" && k != "code":
				wrong = append(wrong, "dndSettings."+ch+".property "+k+" should not exist")
			case !ok:
				wrong = append(wrong, "dndSettings."+ch+"."+k+" must be a string")
			default:
				setOrClear(out, k, s)
			}
		}
		p.dnd[ch] = out
	}
	sort.Strings(wrong)
	return wrong
}

// putInbound reads {all: {status, message?}}.
func (p *patch) putInbound(v any) []string {
	m, _ := v.(map[string]any)
	all, _ := m["all"].(map[string]any)
	if status, _ := all["status"].(string); len(m) != 1 || status != "active" && status != "inactive" {
		return []string{"inboundDndSettings.all.status must be one of the following values: active, inactive"}
	}
	out := map[string]any{"status": all["status"]}
	if s, ok := all["message"].(string); ok && s != "" {
		out["message"] = s
	}
	p.fields["inboundDndSettings"] = map[string]any{"all": out}
	return nil
}

// splitName turns name into first and last name, unless those were sent, which
// win [OBS]. Where it splits (the first space) is invented.
func (p *patch) splitName() {
	v, sent := p.fields["name"]
	if !sent {
		return
	}
	delete(p.fields, "name")
	_, first := p.fields["firstName"]
	_, last := p.fields["lastName"]
	if first || last {
		return
	}
	s, _ := v.(string)
	a, b, _ := strings.Cut(s, " ")
	p.fields["firstName"], p.fields["lastName"] = a, strings.TrimSpace(b)
}

// apply writes p onto s, which must be a fresh clone. A permanent channel can
// be lifted only by a human [INF].
func (p *patch) apply(s *snapshot, byHuman bool) {
	for k, v := range p.fields {
		s.set(k, v)
	}
	for id, v := range p.custom {
		setOrClear(s.custom, id, v)
	}
	if p.dndSet {
		s.set("dndSettings", nil)
	}
	if len(p.dnd) > 0 {
		old, _ := s.fields["dndSettings"].(map[string]any)
		merged := make(map[string]any, len(old)+len(p.dnd))
		for ch, v := range old {
			merged[ch] = v
		}
		for ch, v := range p.dnd {
			setting, _ := old[ch].(map[string]any)
			if setting["status"] == "permanent" && !byHuman {
				continue
			}
			merged[ch] = v
		}
		s.set("dndSettings", merged)
	}
	if p.tagsSet {
		s.tags = slices.Clone(p.tags)
	}
}
