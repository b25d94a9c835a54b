// Package catalog is what can be heard from the two systems and what can be
// done at them, as data: every trigger (a webhook, a poll, a sweep) and every
// action, with its endpoint, scope, cost and the canonical record that it maps
// to. The facts about a call are those of the clients' own tables
// (ghlapi.Endpoints and AppEndpoints, noviapi.Endpoints), so that the catalogue lists nothing
// that can't be called.
package catalog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-sync/causeway/internal/endpoint"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/noviapi"
)

// The systems.
const (
	GHL  = "ghl"
	Novi = "novi"
)

// The kinds of an Entry.
const (
	Trigger = "trigger"
	Action  = "action"
)

// How a trigger comes, or an action is done.
const (
	Webhook = "webhook" // the system tells us
	Poll    = "poll"    // we ask what changed since a watermark
	Sweep   = "sweep"   // we read all of it, as the system lists no dates of change
	Call    = "call"    // of an action
)

// Entry is one trigger or action.
type Entry struct {
	// ID is unique and stays: "ghl.contact.update".
	ID     string `json:"id"`
	System string `json:"system"` // GHL or Novi
	Kind   string `json:"kind"`   // Trigger or Action
	How    string `json:"how"`
	Title  string `json:"title"`
	// Event is a webhook's type, as the system names it.
	Event string `json:"event,omitempty"`
	// Func is the client's method, Method and Path the request that it makes;
	// a webhook has none. PathKey is the path's name in novi.paths; an empty
	// Path beside one is in no evidence and has to be configured.
	Func    string `json:"func,omitempty"`
	Method  string `json:"method,omitempty"`
	Path    string `json:"path,omitempty"`
	PathKey string `json:"path_key,omitempty"`
	// Scope that the token or key needs.
	Scope string `json:"scope"`
	// Effect says what doing it twice leads to. A trigger may come twice, late
	// and out of order.
	Effect endpoint.Effect `json:"effect"`
	// Calls that it costs from the budget, for each page if Paged. A webhook
	// costs none itself and is followed by one fetch of the record.
	Calls int  `json:"calls"`
	Paged bool `json:"paged,omitempty"`
	// Canonical is the kind of record that it is about at the hub, if any:
	// contact, task, note, tag or appointment.
	Canonical string `json:"canonical,omitempty"`
	// Mapped says that Causeway uses it without being told to.
	Mapped bool `json:"mapped_by_default"`
	// Source is the section of the system's dossier that it is known from.
	Source string `json:"source"`
}

// All returns every entry: triggers before actions, each in the order of its
// table.
func All() []Entry {
	all := slices.Clone(webhooks)
	for _, r := range reads {
		all = append(all, r.entry(Trigger))
	}
	for _, r := range actions {
		all = append(all, r.entry(Action))
	}
	return all
}

// Find returns the entries of a system and a kind; "" is any.
func Find(system, kind string) []Entry {
	return slices.DeleteFunc(All(), func(e Entry) bool {
		return system != "" && e.System != system || kind != "" && e.Kind != kind
	})
}

// row is an entry whose facts are an endpoint's.
type row struct {
	id, f, title, canonical string
	mapped                  bool
	how                     string // of a trigger
}

var endpoints = table()

func table() map[string]endpoint.Endpoint {
	all := map[string]endpoint.Endpoint{}
	for _, e := range slices.Concat(ghlapi.Endpoints(), ghlapi.AppEndpoints()) {
		all[GHL+"."+e.Func] = e
	}
	for _, e := range noviapi.Endpoints() {
		all[Novi+"."+e.Func] = e
	}
	return all
}

// pairs are the methods that read before they write.
var pairs = []string{"PutMember", "PutActivity", "UpdateCommitteeMember", "UpdateWebhook"}

func (r row) entry(kind string) Entry {
	system, _, _ := strings.Cut(r.id, ".")
	e, ok := endpoints[system+"."+r.f]
	if !ok {
		panic(fmt.Sprintf("catalog: %s is done by %s, which is no endpoint", r.id, r.f))
	}
	out := Entry{ID: r.id, System: system, Kind: kind, How: r.how, Title: r.title, Func: e.Func, Method: e.Method, Path: e.Path, PathKey: e.Key,
		Scope: e.Scope, Effect: e.Effect, Calls: 1, Paged: e.Paged, Canonical: r.canonical, Mapped: r.mapped, Source: e.Source}
	if out.How == "" {
		out.How = Call
	}
	if slices.Contains(pairs, e.Func) {
		out.Calls = 2
	}
	return out
}
