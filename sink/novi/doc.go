// Package novi writes contacts, tasks, notes and appointments to a Novi site. It satisfies
// apply.Destination.
//
// Novi's PUT replaces the whole member and has no version check, so that what
// is written is the member as just read with the mapped keys laid over it,
// every other key verbatim (dossier Novi §12.1). Between that read and the
// PUT a person's edit can be overwritten; the window is one round trip.
package novi
