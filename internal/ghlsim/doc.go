// Package ghlsim is a GoHighLevel to develop and test against: contacts, and
// their tasks, notes and appointments, of the v2 API over real HTTP, with its
// rate limits, its error bodies, its lagging search index and its signed
// webhooks, for one or more locations held in memory.
//
// What it guarantees: every committed change is in the [Server.Ledger], in
// order, with who made it; replaying the ledger gives [Server.Dump] and
// [Server.Items]; every
// committed change queues the webhooks that GoHighLevel would send, also for
// changes that came through the API; a retried delivery has identical bytes.
// A Server may be used by any number of goroutines.
//
// What it leaves out: OAuth, recurring tasks, calendars themselves and the v3
// dialect. Nothing survives the process.
//
// Where a rule comes from is marked with the evidence tags of the API dossier:
// DOC, SDK, STAFF, OBS, INF, and "invented" where the dossier says that nobody
// knows. README.md lists every invention and every switch.
package ghlsim
