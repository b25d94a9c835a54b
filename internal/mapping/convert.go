package mapping

import (
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
	}
	return s
}

func (l *Lens) phone(s string) string {
	n, err := phonenumbers.Parse(s, l.Region)
	if err != nil || !phonenumbers.IsPossibleNumber(n) {
		return s
	}
	return phonenumbers.Format(n, phonenumbers.E164)
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

// joinTags and splitTags spell tags as one field. A separator within a tag is
// written percent-encoded, so that every set of tags survives.
func (r TagRules) joinTags(tags []string) string {
	sep := strings.TrimSpace(r.Separator)
	out := make([]string, len(tags))
	for i, t := range tags {
		t = strings.ReplaceAll(t, "%", "%25")
		out[i] = strings.ReplaceAll(t, sep, percent(sep))
	}
	return strings.Join(out, r.Separator)
}

func (r TagRules) splitTags(s string) []string {
	sep := strings.TrimSpace(r.Separator)
	var tags []string
	for t := range strings.SplitSeq(s, sep) {
		t = strings.ReplaceAll(t, strings.ToLower(percent(sep)), sep)
		t = strings.ReplaceAll(strings.ReplaceAll(t, percent(sep), sep), "%25", "%")
		if t = NormalizeTag(t); t != "" {
			tags = append(tags, t)
		}
	}
	return tags
}

func percent(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte('%')
		b.WriteByte(hex[s[i]>>4])
		b.WriteByte(hex[s[i]&15])
	}
	return b.String()
}
