package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

const tenant canonical.Tenant = "alpine-guild"

// began is the time of the first read; all others follow from it.
var began = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)

// A mix is what RAW holds.
type mix string

const (
	// first: records that nobody knows yet.
	first mix = "first"
	// update: a known record with one field changed by its user.
	update mix = "update"
	// echo: a fetch that shows what we have just written.
	echo mix = "echo"
	// noop: a row of a listing that shows what is known.
	noop mix = "noop"
	// hot: updates, all of one record.
	hot mix = "hot"
)

// load is what is published to RAW: setup first, which is handled before the
// clock runs, then timed, then paced at a steady rate.
type load struct {
	setup, timed, paced []observation.Observation
}

// build makes a load of n messages about the given number of entities, and
// paced further ones.
func build(m mix, n, entities, paced int) load {
	rng := rand.New(rand.NewPCG(1, 7))
	if m == hot {
		entities = 1
	}
	if m == first {
		entities = n + paced
	}
	turn := make([]int, entities) // how often each was shown
	order := rng.Perm(entities)
	var l load
	if m != first {
		for i := range entities {
			l.setup = append(l.setup, sight(i, 0, observation.Fetch, observation.GHLContactGet))
		}
	}
	if m == echo {
		for i := range entities {
			o := sight(i, 1, observation.Writeback, observation.GHLContactGet)
			o.Wrote, o.Atomic = map[string]string{"address.city": city(1)}, true
			o.Entity = canonical.NewID(tenant, canonical.KindContact, canonical.GHL, o.ExternalID)
			l.setup = append(l.setup, o)
			turn[i] = 1
		}
	}
	for k := range n + paced {
		i := order[k%entities]
		var o observation.Observation
		switch m {
		case first:
			o = sight(i, 0, observation.Backfill, observation.GHLContactGet)
		case update, hot:
			turn[i]++
			o = sight(i, turn[i], observation.Fetch, observation.GHLContactGet)
		case echo:
			o = sight(i, turn[i], observation.Fetch, observation.GHLContactGet)
			o.ReadBegan = o.ReadBegan.Add(time.Duration(k+1) * time.Millisecond)
		case noop:
			o = sight(i, turn[i], observation.Poll, observation.GHLContactSearch)
			o.ReadBegan = o.ReadBegan.Add(time.Duration(k+1) * time.Millisecond)
		}
		if k < n {
			l.timed = append(l.timed, o)
		} else {
			l.paced = append(l.paced, o)
		}
	}
	return l
}

// city is what the user made of the address at the v-th version: never the
// same twice, since what goes to and fro is held.
func city(v int) string { return fmt.Sprintf("Ouray %d", v) }

var names = map[string]string{
	"kQ2vWmXbT7nLzR4pYd8J": "contact.job_title", "nH6cZtGfB3qKsV9wMx2P": "contact.membership_status", "rD4yLpJhN8vTmC7bQz5F": "contact.membership_type",
	"wX9sKfRgM2jPnB6tLc3H": "contact.member_since", "zB5mVqTdH7xWkN4rJp8G": "contact.membership_expires", "tG3nPzXcL6wRqM9kFv2B": "contact.causeway_id",
}

// sight is the v-th version of the i-th contact, as GHL's API shows a contact:
// about 1.5 KB, 21 fields of it mapped.
func sight(i, v int, via observation.Via, endpoint string) observation.Observation {
	modified := began.Add(time.Duration(v) * 20 * time.Minute)
	id := fmt.Sprintf("nmFm%016d", i)
	record := `{"id":"` + id + `","locationId":"ve9EPM428h8vShlRW1KT","contactName":"Ada ` + surname(i) + `","firstName":"Ada","lastName":"` + surname(i) +
		`","firstNameRaw":"Ada","lastNameRaw":"` + surname(i) + `","companyName":"Summit Outfitters ` + fmt.Sprint(i%977) + `","email":"ada.` + strings.ToLower(surname(i)) +
		`@example.org","phone":"` + fmt.Sprintf("+1202555%04d", i%10000) + `","type":"lead","source":"public api","assignedTo":"3GbhQ7xZ9LpWvT2mKn5R","address1":"` + fmt.Sprint(i%9000+1) +
		` Summit Road, Building C","city":"` + city(v) + `","state":"CO","postalCode":"81427","country":"US","timezone":"America/Denver","website":"https://outfitters.example.org/` + fmt.Sprint(i) +
		`","dateOfBirth":"1984-06-12","dnd":false,"dndSettings":{"Email":{"status":"inactive","message":"","code":""},"SMS":{"status":"inactive","message":"","code":""},"Call":{"status":"inactive","message":"","code":""}},` +
		`"inboundDndSettings":{"all":{"status":"inactive","message":""}},"tags":["board","volunteer","spring gala 2026","newsletter"],"followers":[],"additionalEmails":[],"attributions":[{"url":"https://outfitters.example.org/join","campaign":"spring","utmSource":"newsletter","utmMedium":"email","ip":"192.0.2.17","isFirst":true}],` +
		`"customFields":[{"id":"kQ2vWmXbT7nLzR4pYd8J","value":"Guide"},{"id":"nH6cZtGfB3qKsV9wMx2P","value":"Current"},{"id":"rD4yLpJhN8vTmC7bQz5F","value":"Individual"},{"id":"wX9sKfRgM2jPnB6tLc3H","value":"2019-03-01"},{"id":"zB5mVqTdH7xWkN4rJp8G","value":"2027-02-28"}],` +
		`"dateAdded":"2026-01-05T09:12:44.000Z","dateUpdated":"` + modified.Format("2006-01-02T15:04:05.000Z") + `"}`
	if endpoint == observation.GHLContactSearch {
		record = strings.Replace(record, `"address1"`, `"address"`, 1) // what a search calls it
	}
	return observation.Observation{System: canonical.GHL, Tenant: tenant, Kind: canonical.KindContact, ExternalID: canonical.ExternalID(id), Via: via, Endpoint: endpoint,
		ReadBegan: modified.Add(time.Minute), Modified: modified, Names: names, Record: json.RawMessage(record)}
}

// surname differs for each i, so that a phone number that two share isn't
// taken for one person.
func surname(i int) string {
	s := []byte("Im")
	for i++; i > 0; i /= 26 {
		s = append(s, byte('a'+i%26))
	}
	return string(s)
}
