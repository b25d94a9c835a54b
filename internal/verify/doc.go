// Package verify looks at both real systems through their APIs and names
// every difference: [Converged].
//
// It reads and never writes. It pages through both systems once, keeping of
// each entity only its links and a hash of each value, and fetches by id only
// what seems to differ and what a list does not show enough of. What is found
// is looked at once more after a while, so that a change that is under way is
// not reported.
//
// A row of GHL's search lacks some fields (the opt-outs by channel). They are
// taken to be as they were last read if the contact was not modified since;
// [Config.FetchAll] reads each contact instead. Likewise the groups of a Novi
// member, if the list does not show them.
//
// Tasks, notes and appointments are compared in the same way. GHL lists notes
// and appointments by contact only, so those of contacts that are known to
// have any are read.
package verify
