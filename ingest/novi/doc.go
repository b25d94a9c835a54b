// Package novi is the reading side of Novi AMS: its webhooks, one member, and
// all of them. It decides nothing. Facts are from the dossier "Novi", sections
// named where they are used.
package novi
