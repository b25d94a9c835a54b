package mapping

import (
	"slices"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"
)

// Normalize brings a value as a system shows it to its canonical form. It is
// idempotent. What cannot be read as the converter's kind stays as it is, so
// that nothing is lost.
func (l *Lens) Normalize(c Convert, s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	switch c {
	case Email:
		return strings.ToLower(s)
	case Phone:
		return l.phone(s)
	case Date:
		return date(s)
	case Instant:
		return instant(s, time.UTC)
	case Country:
		if len(s) == 2 {
			return strings.ToUpper(s)
		}
		return s
	case Bool:
		if strings.EqualFold(s, "true") {
			return "true"
		}
		return ""
	case DND:
		// "permanent" is on, and can't be lifted by the API (dossier GHL §4.5).
		if s == "active" || s == "permanent" || strings.EqualFold(s, "true") {
			return "true"
		}
		return ""
	case List:
		return JoinList(SplitList(s))
	case HTML:
		return plainText(s)
	}
	return s
}

func (l *Lens) phone(s string) string {
	if american(s) {
		return s
	}
	n, err := phonenumbers.Parse(s, l.Region)
	if err != nil || !phonenumbers.IsPossibleNumber(n) {
		return s
	}
	return phonenumbers.Format(n, phonenumbers.E164)
}

// american reports whether s is +1 and ten digits as the North American plan has
// them: E.164 already, which most numbers are, and a hundredth of the work to
// find out.
func american(s string) bool {
	if len(s) != 12 || s[:2] != "+1" || s[2] < '2' {
		return false
	}
	for i := 2; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

var dateForms = []string{
	"2006-01-02", "2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999",
	"2006/01/02", "01/02/2006", "01-02-2006",
}

// date keeps the day as the system wrote it, in the zone that it wrote it in:
// a membership that expires on the first does so in every zone.
func date(s string) string {
	for _, form := range dateForms {
		if t, err := time.Parse(form, s); err == nil {
			return t.Format("2006-01-02")
		}
	}
	return s
}

// NormalizeTag is a tag's canonical form: lower case with no space around it,
// as GHL keeps them (dossier GHL §3.10).
func NormalizeTag(tag string) string { return strings.ToLower(strings.TrimSpace(tag)) }

// joinTags and splitTags spell tags as one field.
func (r TagRules) joinTags(tags []string) string { return joinWith(tags, r.Separator) }

func (r TagRules) splitTags(s string) []string {
	tags := splitAt(s, r.Separator)
	for i := range tags {
		tags[i] = NormalizeTag(tags[i])
	}
	return slices.DeleteFunc(tags, func(t string) bool { return t == "" })
}
