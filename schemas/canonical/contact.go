package canonical

import (
	"slices"
	"strings"
)

// Contact is a person as both systems are meant to show them. Empty means
// that there is no value; a value is normalized: no space around it, e-mail
// in lower case, phone numbers in E.164 where they could be read as one,
// dates as YYYY-MM-DD.
type Contact struct {
	ID          CanonicalID       `json:"id"`
	FirstName   string            `json:"first_name,omitempty"`
	LastName    string            `json:"last_name,omitempty"`
	Email       string            `json:"email,omitempty"`
	Phone       string            `json:"phone,omitempty"`
	Address     Address           `json:"address"`
	Company     string            `json:"company,omitempty"`
	JobTitle    string            `json:"job_title,omitempty"`
	DateOfBirth string            `json:"date_of_birth,omitempty"`
	Website     string            `json:"website,omitempty"`
	Source      string            `json:"source,omitempty"`
	OptOuts     OptOuts           `json:"opt_outs"`
	Membership  Membership        `json:"membership"`
	Tags        []string          `json:"tags"`             // lower case, sorted, each once
	Custom      map[string]string `json:"custom,omitempty"` // by the name the mapping gives it
	Deleted     bool              `json:"deleted,omitempty"`
}

// Address is a postal address. Country is ISO 3166 alpha-2 where it could be
// read as one.
type Address struct {
	Line1      string `json:"line1,omitempty"`
	Line2      string `json:"line2,omitempty"`
	City       string `json:"city,omitempty"`
	State      string `json:"state,omitempty"`
	PostalCode string `json:"postal_code,omitempty"`
	Country    string `json:"country,omitempty"`
}

// OptOuts says by which ways a person does not want to be reached.
type OptOuts struct {
	All   bool `json:"all,omitempty"`
	Email bool `json:"email,omitempty"`
	SMS   bool `json:"sms,omitempty"`
	Calls bool `json:"calls,omitempty"`
}

// Membership is what the association management system knows of the person's
// standing. Dates are YYYY-MM-DD.
type Membership struct {
	Status  string `json:"status,omitempty"` // an open set: current, expired, grace_period, …
	Type    string `json:"type,omitempty"`
	Since   string `json:"since,omitempty"`
	Expires string `json:"expires,omitempty"`
	Active  bool   `json:"active,omitempty"`
}

// CustomPrefix starts the field names of custom values: "custom.shirt_size".
const CustomPrefix = "custom."

// field is how one named field is read and set as text. A boolean is "true"
// or empty.
type field struct {
	text func(*Contact) *string
	flag func(*Contact) *bool
}

var contactFields = map[string]field{
	"first_name":          {text: func(c *Contact) *string { return &c.FirstName }},
	"last_name":           {text: func(c *Contact) *string { return &c.LastName }},
	"email":               {text: func(c *Contact) *string { return &c.Email }},
	"phone":               {text: func(c *Contact) *string { return &c.Phone }},
	"address.line1":       {text: func(c *Contact) *string { return &c.Address.Line1 }},
	"address.line2":       {text: func(c *Contact) *string { return &c.Address.Line2 }},
	"address.city":        {text: func(c *Contact) *string { return &c.Address.City }},
	"address.state":       {text: func(c *Contact) *string { return &c.Address.State }},
	"address.postal_code": {text: func(c *Contact) *string { return &c.Address.PostalCode }},
	"address.country":     {text: func(c *Contact) *string { return &c.Address.Country }},
	"company":             {text: func(c *Contact) *string { return &c.Company }},
	"job_title":           {text: func(c *Contact) *string { return &c.JobTitle }},
	"date_of_birth":       {text: func(c *Contact) *string { return &c.DateOfBirth }},
	"website":             {text: func(c *Contact) *string { return &c.Website }},
	"source":              {text: func(c *Contact) *string { return &c.Source }},
	"opt_outs.all":        {flag: func(c *Contact) *bool { return &c.OptOuts.All }},
	"opt_outs.email":      {flag: func(c *Contact) *bool { return &c.OptOuts.Email }},
	"opt_outs.sms":        {flag: func(c *Contact) *bool { return &c.OptOuts.SMS }},
	"opt_outs.calls":      {flag: func(c *Contact) *bool { return &c.OptOuts.Calls }},
	"membership.status":   {text: func(c *Contact) *string { return &c.Membership.Status }},
	"membership.type":     {text: func(c *Contact) *string { return &c.Membership.Type }},
	"membership.since":    {text: func(c *Contact) *string { return &c.Membership.Since }},
	"membership.expires":  {text: func(c *Contact) *string { return &c.Membership.Expires }},
	"membership.active":   {flag: func(c *Contact) *bool { return &c.Membership.Active }},
}

// ContactFields returns the names of the fields of a contact other than tags
// and custom values, sorted.
func ContactFields() []string {
	names := make([]string, 0, len(contactFields))
	for name := range contactFields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// KnownField reports whether name is a field of a contact: one of
// [ContactFields], or CustomPrefix followed by a name.
func KnownField(name string) bool {
	_, ok := contactFields[name]
	return ok || (strings.HasPrefix(name, CustomPrefix) && len(name) > len(CustomPrefix))
}

// Field returns the value of the named field as text: "true" or "" for a
// boolean, "" for a field that has no value or is not known.
func (c *Contact) Field(name string) string {
	f, ok := contactFields[name]
	switch {
	case !ok:
		return c.Custom[strings.TrimPrefix(name, CustomPrefix)]
	case f.text != nil:
		return *f.text(c)
	case *f.flag(c):
		return "true"
	}
	return ""
}

// SetField sets the named field from text and reports whether the field is
// known. The custom values are replaced by a copy, so a Contact that was
// copied by assignment is not changed through its copy.
func (c *Contact) SetField(name, value string) bool {
	f, ok := contactFields[name]
	switch {
	case !ok:
		if !KnownField(name) {
			return false
		}
		custom := make(map[string]string, len(c.Custom)+1)
		for k, v := range c.Custom {
			custom[k] = v
		}
		if value == "" {
			delete(custom, strings.TrimPrefix(name, CustomPrefix))
		} else {
			custom[strings.TrimPrefix(name, CustomPrefix)] = value
		}
		c.Custom = custom
	case f.text != nil:
		*f.text(c) = value
	default:
		*f.flag(c) = value == "true"
	}
	return true
}
