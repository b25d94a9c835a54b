// Package tokens keeps GHL's OAuth tokens in bucket TOKENS, encrypted, and
// refreshes them ahead of their expiry.
//
// A refresh token is good for one use (dossier GHL §1.3), and any number of
// processes share it. So a refresh is four steps:
//
//  1. that it is about to be used, by whom, is stored against the revision of
//     the record, so that of all processes one goes on;
//  2. it is presented;
//  3. the new pair is stored;
//  4. the new access token is used.
//
// Nobody but a person takes over what another process has begun: a process that
// died between 1 and 3 may have presented the token, and nothing can tell. The
// record then stays as it is, "in doubt"; the access token of before goes on
// being used until it expires, which is a quarter of its lifetime away when the
// refresh begins. No clock has any part in this.
//
// The window that remains: a process that dies after 1 is stored and before 3
// is, or a call that ended without an answer from the token endpoint. Whether
// or not the server has seen the call then, the location has to be installed
// again, or [Store.Retry] has the token presented once more. A location that
// is reached through its agency has no such window: its token is made anew from
// the agency's, any number of times; the agency's own token has it.
package tokens

import (
	"errors"
	"time"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// Owner is whose tokens they are: a tenant's, for its location, or those of an
// agency.
type Owner struct {
	Tenant  canonical.Tenant
	Company string // an agency's id
}

// String names the owner.
func (o Owner) String() string {
	if o.Company != "" {
		return "agency " + o.Company
	}
	return "tenant " + string(o.Tenant)
}

const (
	tenantKeys  = "ghl.tenant."
	companyKeys = "ghl.company."
)

// key is where the owner's record is: system and tenant. The encryption binds
// the record to it.
func (o Owner) key() string {
	if o.Company != "" {
		return companyKeys + streams.Token(o.Company)
	}
	return tenantKeys + streams.Token(string(o.Tenant))
}

// Pair is what a token endpoint answers.
type Pair struct {
	Access string
	// Refresh is good for one use; "" means that there is none.
	Refresh string
	// Lifetime of Access.
	Lifetime          time.Duration
	Scope             string
	Kind              string // of token, as the endpoint calls it
	Company, Location string
}

// Grant is an owner's record.
type Grant struct {
	// ID is of the installation; another one is another grant.
	ID string `json:"id"`
	// Generation counts the pairs that were stored, from 1.
	Generation int       `json:"generation"`
	Access     string    `json:"access,omitempty"`
	Refresh    string    `json:"refresh,omitempty"`
	Obtained   time.Time `json:"obtained,omitzero"`
	Expires    time.Time `json:"expires,omitzero"`
	Scope      string    `json:"scope,omitempty"`
	Location   string    `json:"location,omitempty"`
	Company    string    `json:"company,omitempty"`
	// Minted says that Access was made from the agency's token.
	Minted bool `json:"minted,omitempty"`
	// Pending is set while the refresh token is being used.
	Pending *Pending `json:"pending,omitempty"`
	// Refused says why the refresh token is good for nothing any more.
	Refused string `json:"refused,omitempty"`
	// Gone says that the app was uninstalled; there are no tokens then.
	Gone bool `json:"gone,omitempty"`
	// At is when it was installed, or uninstalled.
	At time.Time `json:"at,omitzero"`
	// Asked is when a refresh was last begun because the access token was
	// refused before its time.
	Asked time.Time `json:"asked,omitzero"`
}

// Pending is a use of the refresh token of which no end is stored.
type Pending struct {
	ID    string    `json:"id"` // of the attempt
	By    string    `json:"by"` // the process
	Since time.Time `json:"since"`
	// Doubt says how the call ended, if the process has lived to tell.
	Doubt string `json:"doubt,omitempty"`
}

// due is when the access token is to be replaced: with a quarter of its
// lifetime left.
func (g Grant) due() time.Time { return g.Expires.Add(-g.Expires.Sub(g.Obtained) / 4) }

// with is the grant with a new pair.
func (g Grant) with(p Pair, now time.Time) Grant {
	g.Generation++
	g.Access, g.Refresh, g.Obtained, g.Expires, g.Pending = p.Access, p.Refresh, now, now.Add(p.Lifetime), nil
	if p.Scope != "" {
		g.Scope = p.Scope
	}
	if p.Location != "" {
		g.Location = p.Location
	}
	if p.Company != "" {
		g.Company = p.Company
	}
	return g
}

// inDoubt is the state of a grant whose refresh token may have been used.
const inDoubt = "in doubt"

// State is what a grant is good for, in a word.
func (g Grant) State(now time.Time) string {
	switch {
	case g.Gone:
		return "uninstalled"
	case g.Refused != "":
		return "refused"
	case g.Pending != nil && (g.Pending.Doubt != "" || now.Sub(g.Pending.Since) > patience):
		return inDoubt
	case g.Pending != nil:
		return "refreshing"
	case !now.Before(g.Expires):
		return "expired"
	}
	return "good"
}

// ErrNotInstalled says that there are no tokens: the app was not installed, or
// was uninstalled.
var ErrNotInstalled = errors.New("the app is not installed")
