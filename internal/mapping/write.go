package mapping

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// GHLBody returns the body of a GHL contact create or update that sets the
// given fields. ids gives the id of each custom field's key. Fields that can't
// be written are left out and returned as skipped: those whose custom field
// the location does not have, and those whose value has no spelling here (a
// write expression fails on it, or a table gives it another meaning).
//
// Clearing: null for what GHL declares nullable, "" for the others (dossier
// GHL §3.1).
func (l *Lens) GHLBody(fields map[string]string, ids map[string]string) (body map[string]any, skipped []string) {
	body = map[string]any{}
	var custom []map[string]any
	for _, b := range l.Bindings {
		value, ok := fields[b.Field]
		if !ok || b.GHL.Path == "" {
			continue
		}
		path := b.GHL.Path
		spelled, err := l.spell(b, canonical.GHL, value)
		if err != nil {
			skipped = append(skipped, b.Field)
			continue
		}
		switch {
		case strings.HasPrefix(path, CustomPath):
			id := ids[strings.TrimPrefix(path, CustomPath)]
			if id == "" {
				skipped = append(skipped, b.Field)
				continue
			}
			custom = append(custom, map[string]any{"id": id, "field_value": spelled})
		case strings.HasPrefix(path, "dndSettings."):
			status := "inactive"
			if value == "true" {
				status = "active"
			}
			settings, _ := body["dndSettings"].(map[string]any)
			if settings == nil {
				settings = map[string]any{}
			}
			settings[strings.TrimPrefix(path, "dndSettings.")] = map[string]any{"status": status}
			body["dndSettings"] = settings
		case b.Convert == Bool:
			body[path] = value == "true"
		case value == "" && path != "postalCode" && path != "country":
			body[path] = nil
		default:
			body[path] = spelled
		}
	}
	if custom != nil {
		body["customFields"] = custom
	}
	return body, skipped
}

// spell turns a canonical value into what b's side at system holds: a text, or
// the items of a list. The error names the field and the direction, never the
// value.
func (l *Lens) spell(b Binding, system canonical.System, value string) (any, error) {
	side := b.Side(system)
	switch {
	case b.Convert == List && side.Separator == "":
		return SplitList(value), nil
	case b.Convert == List:
		return joinWith(SplitList(value), side.Separator), nil
	case value == "":
		return "", nil
	}
	if side.HTML {
		value = TextToHTML(value)
	}
	if side.values != nil {
		var ok bool
		if value, ok = side.values.write(value); !ok {
			return nil, fmt.Errorf("write %s to %s: the value stands for another one there", b.Field, system)
		}
	}
	if b.Convert == Instant && system == canonical.Novi {
		value = wall(value, l.zone(system))
	}
	value, err := side.WriteExpr.eval(value, &l.contact)
	if err != nil {
		return nil, fmt.Errorf("write %s to %s: %w", b.Field, system, err)
	}
	return value, nil
}

// GHLRefField returns the custom field item that marks a GHL contact as made
// for id, or nil if the location has no field for it.
func (l *Lens) GHLRefField(id canonical.CanonicalID, ids map[string]string) map[string]any {
	if field := ids[l.GHLRef]; l.GHLRef != "" && field != "" {
		return map[string]any{"id": field, "field_value": string(id)}
	}
	return nil
}

// NoviOverlay returns raw, a whole member as it was just read, with the given
// fields and (if tags is not nil) tags set. Every key that is not mapped is
// kept verbatim: a PUT replaces the whole member (dossier Novi §12.1). A
// mapped top-level key that raw lacks is an error, since the key may hide it,
// and so is a value that has no spelling here: a member is written whole.
func (l *Lens) NoviOverlay(raw json.RawMessage, fields map[string]string, tags *[]string) (json.RawMessage, error) {
	var record map[string]json.RawMessage
	if err := json.Unmarshal(raw, &record); err != nil || record == nil {
		return nil, fmt.Errorf("overlay novi member: not a JSON object")
	}
	custom := map[string]map[string]json.RawMessage{}
	if c, ok := record["CustomFields"]; ok {
		if err := json.Unmarshal(c, &custom); err != nil {
			return nil, fmt.Errorf("overlay novi member: CustomFields is not an object of objects")
		}
	}
	touched := false
	setCustom := func(name string, value any) {
		entry := custom[name]
		if entry == nil {
			entry = map[string]json.RawMessage{"IsSumOfChildren": json.RawMessage("false")}
		}
		entry["Value"] = jsonText(value)
		if custom == nil {
			custom = map[string]map[string]json.RawMessage{}
		}
		custom[name], touched = entry, true
	}
	for _, b := range l.Bindings {
		value, ok := fields[b.Field]
		if !ok || b.Novi.Path == "" {
			continue
		}
		spelled, err := l.spell(b, canonical.Novi, value)
		if err != nil {
			return nil, fmt.Errorf("overlay novi member: %w", err)
		}
		if name, ok := strings.CutPrefix(b.Novi.Path, CustomPath); ok {
			setCustom(name, spelled)
			continue
		}
		top, inner, nested := strings.Cut(b.Novi.Path, ".")
		old, ok := record[top]
		if !ok {
			return nil, fmt.Errorf("overlay novi member: key %q is not shown to this API key", top)
		}
		set := jsonText(spelled)
		if b.Convert == Bool || b.Convert == DND {
			set = json.RawMessage("false")
			if value == "true" {
				set = json.RawMessage("true")
			}
		}
		if !nested {
			record[top] = set
			continue
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(old, &object) != nil || object == nil {
			object = map[string]json.RawMessage{}
		}
		object[inner] = set
		encoded, err := json.Marshal(object)
		if err != nil {
			return nil, fmt.Errorf("overlay novi member: %w", err)
		}
		record[top] = encoded
	}
	if tags != nil && l.Tags.NoviField != "" {
		sorted := slices.DeleteFunc(slices.Clone(*tags), l.FromGroup)
		slices.Sort(sorted)
		setCustom(l.Tags.NoviField, l.Tags.joinTags(sorted))
	}
	if touched {
		encoded, err := json.Marshal(custom)
		if err != nil {
			return nil, fmt.Errorf("overlay novi member: %w", err)
		}
		record["CustomFields"] = encoded
	}
	return json.Marshal(record)
}

// jsonText spells a value for Novi, which shows what is missing as null.
func jsonText(value any) json.RawMessage {
	if value == "" {
		return json.RawMessage("null")
	}
	encoded, _ := json.Marshal(value) // a text and a list of texts always encode
	return encoded
}
