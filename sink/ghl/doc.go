// Package ghl writes contacts, tasks, notes and appointments to a GHL location. It satisfies
// apply.Destination.
//
// Bodies hold only the keys that the operation declares, and tags are written
// by delta, never by replacing the set (dossier GHL §0.3, §4.1). It never
// decides what is true.
package ghl
