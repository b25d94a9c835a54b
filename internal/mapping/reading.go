package mapping

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Readings returns, for each field of kind that the mapping reads at system, a
// word of [canonical.ReadingLen] letters for everything that the reading
// depends on: path, converter, expression, table, separator, region, time
// zone. It is the same for mappings that read the field in the same way, in
// every process, and with one chance in 16 million for two that don't. The tags
// are under [canonical.TagsReading]. Whose value wins and what is written is no
// part of it. The map is shared, and not to be changed.
//
// A lens that was not made by [Spec.Build] has none.
func (l *Lens) Readings(kind canonical.Kind, system canonical.System) map[string]string {
	return l.readings[Flow{kind, system}]
}

// fingerprint notes the readings.
func (l *Lens) fingerprint() {
	l.readings = map[Flow]map[string]string{}
	for _, kind := range append(canonical.Items(), canonical.KindContact) {
		for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
			of := map[string]string{}
			for _, b := range l.BindingsOf(kind) {
				if b.Side(system).Path != "" {
					of[b.Field] = word(l.dependsOn(kind, system, b)...)
				}
			}
			l.readings[Flow{kind, system}] = of
		}
	}
	// GHL has tags; in Novi they are kept in a field, and come from groups.
	l.readings[Flow{canonical.KindContact, canonical.GHL}][canonical.TagsReading] = word("tags")
	l.readings[Flow{canonical.KindContact, canonical.Novi}][canonical.TagsReading] = word("tags", l.Tags.NoviField, l.Tags.Separator, l.Tags.GroupPrefix)
}

// dependsOn lists what the reading of b at system depends on.
func (l *Lens) dependsOn(kind canonical.Kind, system canonical.System, b Binding) []any {
	side := b.Side(system)
	all := []any{b.Convert, side.Path, side.ReadExpr.String()}
	switch b.Convert {
	case Phone:
		all = append(all, l.Region)
	case List:
		all = append(all, side.Separator)
	case HTML:
		all = append(all, side.HTML)
	case Instant:
		all = append(all, l.zone(system).String())
	case User:
		if l.Users != nil {
			all = append(all, l.Users.at(system).ours)
		}
	}
	if side.values != nil {
		all = append(all, side.values.ours)
	}
	if kind != canonical.KindContact && system == canonical.Novi && side.Path == "Subject" {
		all = append(all, l.noSubject(kind))
	}
	return all
}

// word is a short word for all of that.
func word(all ...any) string {
	text, err := json.Marshal(all)
	if err != nil {
		panic(fmt.Sprintf("fingerprint of a reading: %v", err)) // texts, flags and tables of them
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:])[:canonical.ReadingLen]
}
