package dev

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
)

// People edit on both sides, at random but repeatably. Addresses and numbers
// are of the ranges that are reserved for examples.
type People struct {
	w       *World
	r       *rand.Rand
	n       int // people made so far
	ghl     []string
	members []string
	acts    int             // changes made so far
	twins   []twin          // those whom nobody has noticed yet
	kept    map[string]bool // addresses that stay as they are
	freed   []freed         // addresses that others will have
	done    Doings
}

// NewPeople returns people whose whims follow from seed.
func NewPeople(w *World, seed int64) *People {
	return &People{w: w, r: rand.New(rand.NewPCG(uint64(seed), 0x70656f706c65)), kept: map[string]bool{}}
}

var (
	firstNames = []string{"Ada", "Bruno", "Chiara", "Dmitri", "Elena", "Farid", "Greta", "Hiro", "Ines", "Jonas", "Katya", "Luca", "Mina", "Nils", "Olga", "Pavel", "Quinn", "Rosa", "Sven", "Tara", "Ugo", "Vera", "Wanda", "Xenia", "Yusuf", "Zoe"}
	lastNames  = []string{"Alder", "Berg", "Castell", "Dufour", "Egger", "Fontana", "Gruber", "Huber", "Imhof", "Jensen", "Keller", "Lindt", "Moser", "Nydegger", "Oberholzer", "Pfister", "Rossi", "Steiner", "Tanner", "Ulrich", "Vogel", "Weber", "Zeller"}
	cities     = []string{"Denver", "Boulder", "Aspen", "Leadville", "Durango", "Ouray", "Telluride", "Vail", "Salida", "Golden"}
	jobs       = []string{"Guide", "Baker", "Engineer", "Surveyor", "Teacher", "Ranger", "Physician", "Geologist", "Writer", "Carpenter"}
	tagNames   = []string{"board", "volunteer", "newsletter", "sponsor", "speaker", "alumni", "donor", "committee; events", "vip"}
	statuses   = []string{"current", "expired", "grace_period", "non_member"}
	shirts     = []string{"S", "M", "L", "XL"}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// person is a new somebody, with an address and a number nobody else has.
type person struct{ first, last, email, phone, city, job string }

func (p *People) person() person {
	p.n++
	first, last := pick(p.r, firstNames), pick(p.r, lastNames)
	return person{first: first, last: last, email: p.email(first, last), phone: p.phone(), city: pick(p.r, cities), job: pick(p.r, jobs)}
}

func (p *People) email(first, last string) string {
	p.n++
	return fmt.Sprintf("%s.%s.%d@example.org", strings.ToLower(first), strings.ToLower(last), p.n)
}

// phone is a number of the range that is reserved for fiction, each once.
func (p *People) phone() string {
	p.n++
	return fmt.Sprintf("+1%03d55501%02d", 201+p.n/100, p.n%100)
}

// Arrive makes n people: about half in GHL, half in Novi, and every tenth in
// both.
func (p *People) Arrive(n int) error {
	for i := range n {
		who := p.person()
		if i%2 == 0 || i%10 == 1 {
			if err := p.createGHL(who); err != nil {
				return err
			}
		}
		if i%2 == 1 {
			if err := p.createNovi(who); err != nil {
				return err
			}
		}
	}
	return nil
}

// Pair is one person's records in both systems.
type Pair struct{ GHL, Novi string }

// Overlap makes each people in either system, of whom same are in both, who come first: two
// databases that nobody has kept the same. Two of three of those have the
// same address on both sides, the others only their number and name. Names
// differ in case and numbers in form; of the other fields a side may lack a
// value or have one of its own.
func (p *People) Overlap(each, same int) ([]Pair, error) {
	var pairs []Pair
	for i := range 2*each - same {
		who := p.person()
		ghl, novi := p.fields(who)
		switch {
		case i >= each:
			ghl = nil
		case i >= same:
			novi = nil
		case i%3 > 0:
			novi["Email"] = pick(p.r, []string{who.email, strings.ToUpper(who.email), " " + who.email})
			if p.r.IntN(4) == 0 {
				novi["Mobile"] = pick(p.r, []any{nil, p.phone()})
			}
		default:
			// At most one side knows the address.
			switch p.r.IntN(3) {
			case 0:
				delete(ghl, "email")
			case 1:
				delete(novi, "Email")
			case 2:
				delete(ghl, "email")
				delete(novi, "Email")
			}
		}
		var pair Pair
		var err error
		if ghl != nil {
			e := ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: Location, Tags: p.someTags(), Fields: ghl}
			if pair.GHL, err = p.w.GHL.Edit(e); err != nil {
				return nil, fmt.Errorf("person in ghl: %w", err)
			}
		}
		if novi != nil {
			if pair.Novi, err = p.w.Novi.Edit(novisim.Edit{Fields: novi}); err != nil {
				return nil, fmt.Errorf("person in novi: %w", err)
			}
		}
		pairs = append(pairs, pair)
	}
	return pairs, nil
}

// notes are every member's in Novi. No mapping names them, so they have to be
// there in the end; see [nulled].
const notes = "sits by the window"

// fields are what the two systems know of who, each in its own way.
func (p *People) fields(who person) (ghl, novi map[string]any) {
	spelled := func(s string) string { return pick(p.r, []string{s, s, strings.ToUpper(s), strings.ToLower(s)}) }
	bare := strings.TrimPrefix(who.phone, "+1")
	ghl = map[string]any{"firstName": spelled(who.first), "lastName": spelled(who.last), "email": who.email, "phone": who.phone}
	novi = map[string]any{
		"Name": fmt.Sprintf("%s %s (%d)", who.first, who.last, p.n), "FirstName": spelled(who.first), "LastName": spelled(who.last), "Email": who.email,
		"Mobile":       pick(p.r, []string{who.phone, bare, fmt.Sprintf("%s.%s.%s", bare[:3], bare[3:6], bare[6:]), "1 " + bare[:3] + " " + bare[3:]}),
		"MemberStatus": pick(p.r, statuses), "MemberSince": "2024-03-01T00:00:00", "CustomFields.GHL Tags": joinTags(p.someTags()),
		"UnsubscribeFromEmails": p.r.IntN(10) == 0, "Notes": notes,
	}
	for _, f := range []struct {
		ghl, novi string
		value     func() string
	}{
		{"city", "BillingAddress.City", func() string { return pick(p.r, cities) }},
		{"address1", "BillingAddress.Address1", func() string { return fmt.Sprintf("%d Summit Road", 1+p.r.IntN(400)) }},
		{"website", "Website", func() string { return fmt.Sprintf("https://example.org/%d", p.r.IntN(1000)) }},
		{"customFields.contact.job_title", "JobTitle", func() string { return pick(p.r, jobs) }},
		{"customFields.contact.shirt_size", "CustomFields.Shirt size", func() string { return pick(p.r, shirts) }},
	} {
		switch v := f.value(); p.r.IntN(5) {
		case 0:
			ghl[f.ghl] = v
		case 1:
			novi[f.novi] = v
		case 2:
			ghl[f.ghl], novi[f.novi] = v, v
		case 3:
			ghl[f.ghl], novi[f.novi] = v, f.value()
		}
	}
	return ghl, novi
}

func (p *People) createGHL(who person) error {
	id, err := p.w.GHL.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: Location, Tags: p.someTags(), Fields: map[string]any{
		"firstName": who.first, "lastName": who.last, "email": who.email, "phone": who.phone, "city": who.city,
		"customFields.contact.job_title": who.job,
	}})
	if err != nil {
		return fmt.Errorf("person in ghl: %w", err)
	}
	p.ghl = append(p.ghl, id)
	return nil
}

func (p *People) createNovi(who person) error {
	id, err := p.w.Novi.Edit(novisim.Edit{Fields: map[string]any{
		"Name": fmt.Sprintf("%s %s (%d)", who.first, who.last, p.n), "FirstName": who.first, "LastName": who.last, "Email": who.email, "Mobile": who.phone,
		"BillingAddress.City": who.city, "JobTitle": who.job, "MemberStatus": pick(p.r, statuses), "MemberSince": "2024-03-01T00:00:00",
		"CustomFields.GHL Tags": joinTags(p.someTags()), "Notes": notes,
	}})
	if err != nil {
		return fmt.Errorf("person in novi: %w", err)
	}
	p.members = append(p.members, id)
	return nil
}

func (p *People) someTags() []string {
	var out []string
	for range p.r.IntN(3) {
		out = append(out, pick(p.r, tagNames))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// joinTags and splitTags spell tags in Novi's custom field as the default
// mapping does.
func joinTags(tags []string) any {
	if len(tags) == 0 {
		return nil
	}
	escaped := make([]string, len(tags))
	for i, t := range tags {
		escaped[i] = strings.ReplaceAll(t, ";", "%3B")
	}
	return strings.Join(escaped, "; ")
}

func splitTags(v any) []string {
	s, _ := v.(string)
	var out []string
	for t := range strings.SplitSeq(s, ";") {
		if t = strings.TrimSpace(t); t != "" {
			out = append(out, strings.ReplaceAll(t, "%3B", ";"))
		}
	}
	return out
}

// Meet makes known the people whom the pipeline has made, so that they are
// edited too.
func (p *People) Meet() {
	p.ghl = p.ghl[:0]
	for _, c := range p.w.GHL.Dump(Location) {
		p.ghl = append(p.ghl, c.ID)
	}
	p.members = p.members[:0]
	for _, m := range p.w.Novi.Dump() {
		p.members = append(p.members, m.UniqueID)
	}
}

// Act makes one random change somewhere.
func (p *People) Act() error {
	p.acts++
	if err := errors.Join(p.notice(), p.reuse()); err != nil {
		return err
	}
	if p.w.twins && len(p.ghl) > 0 && len(p.members) > 0 && p.r.IntN(50) == 0 {
		return p.actTwins()
	}
	if p.w.items && len(p.ghl) > 0 && len(p.members) > 0 && p.r.IntN(4) == 0 {
		return p.actItem()
	}
	if p.r.IntN(2) == 0 {
		return p.actGHL()
	}
	return p.actNovi()
}

func (p *People) actGHL() error {
	if len(p.ghl) == 0 || p.r.IntN(20) == 0 {
		return p.createGHL(p.person())
	}
	id := pick(p.r, p.ghl)
	c, ok := p.w.GHL.Contact(Location, id)
	if !ok {
		return nil
	}
	e := ghlsim.Edit{Kind: ghlsim.EditUpdate, LocationID: Location, ContactID: id, Fields: map[string]any{}}
	switch p.r.IntN(10) {
	case 0, 1:
		e.Kind, e.Tags, e.Fields = ghlsim.EditAddTags, []string{pick(p.r, tagNames)}, nil
	case 2:
		e.Kind, e.Tags, e.Fields = ghlsim.EditRemoveTags, []string{pick(p.r, tagNames)}, nil
	case 3:
		if p.keeps(c.Fields["email"]) {
			return nil
		}
		e.Fields["email"] = p.email(pick(p.r, firstNames), pick(p.r, lastNames))
	case 4:
		e.Fields["phone"] = p.phone()
	case 5:
		status := pick(p.r, []string{"active", "inactive"})
		e.Fields["dndSettings"] = map[string]any{"Email": map[string]any{"status": status}}
	case 6:
		e.Fields["customFields.contact.job_title"] = pick(p.r, jobs)
		e.Fields["customFields.contact.shirt_size"] = pick(p.r, shirts)
	case 7:
		e.Fields["firstName"], e.Fields["lastName"] = p.renamed(c.Fields["firstName"]), pick(p.r, lastNames)
	case 8:
		e.Fields["address1"], e.Fields["city"] = fmt.Sprintf("%d Summit Road", 1+p.r.IntN(400)), pick(p.r, cities)
		e.Fields["postalCode"] = fmt.Sprintf("80%03d", p.r.IntN(1000))
	case 9:
		// Somebody clears a field.
		e.Fields[pick(p.r, []string{"address1", "website", "customFields.contact.job_title"})] = nil
	}
	_, err := p.w.GHL.Edit(e)
	if errors.Is(err, ghlsim.ErrNotFound) {
		return nil
	}
	return err
}

func (p *People) actNovi() error {
	if len(p.members) == 0 || p.r.IntN(20) == 0 {
		return p.createNovi(p.person())
	}
	id := pick(p.r, p.members)
	m, ok := p.w.Novi.Member(id)
	if !ok || m.Fields["Active"] == false {
		return nil
	}
	f := map[string]any{}
	switch p.r.IntN(10) {
	case 0, 1, 2:
		custom, _ := m.Fields["CustomFields"].(map[string]any)
		entry, _ := custom["GHL Tags"].(map[string]any)
		tags, tag := splitTags(entry["Value"]), pick(p.r, tagNames)
		if i := slices.Index(tags, tag); i >= 0 {
			tags = slices.Delete(tags, i, i+1)
		} else {
			tags = append(tags, tag)
		}
		slices.Sort(tags)
		f["CustomFields.GHL Tags"] = joinTags(tags)
	case 3:
		if p.keeps(m.Fields["Email"]) {
			return nil
		}
		f["Email"] = p.email(pick(p.r, firstNames), pick(p.r, lastNames))
	case 4:
		f["Mobile"] = p.phone()
	case 5:
		f["UnsubscribeFromEmails"] = true
	case 6:
		f["MemberStatus"] = pick(p.r, statuses)
	case 7:
		f["FirstName"], f["LastName"] = p.renamed(m.Fields["FirstName"]), pick(p.r, lastNames)
	case 8:
		f["BillingAddress.Address1"], f["BillingAddress.City"] = fmt.Sprintf("%d Glacier Lane", 1+p.r.IntN(400)), pick(p.r, cities)
		f["Website"] = fmt.Sprintf("https://example.org/%d", p.r.IntN(1000))
	case 9:
		f[pick(p.r, []string{"BillingAddress.Address1", "Website", "JobTitle"})] = nil
	}
	_, err := p.w.Novi.Edit(novisim.Edit{MemberID: id, Fields: f})
	return err
}
