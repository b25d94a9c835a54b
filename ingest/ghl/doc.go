// Package ghl is the reading side of GoHighLevel: its webhooks, one contact,
// and all of them. It decides nothing. Facts are from the dossier "GHL",
// sections named where they are used.
package ghl
