// Package console is the web page for the people who run the pipeline: whether
// everything arrives, and if not, why; what is known of a contact, from whom,
// and what was done about it; and the work that needs a person.
//
// It reads NATS and nothing else: no system is called. What changes often is
// followed (contacts, effects, budgets, cursors, holds) and kept in memory
// within bounds; what somebody looks at closely is read when it is looked at.
// What it shows is for people who may see personal data; its logs, its errors
// and its audit hold ids only.
//
// The pages are made here, with html/template, and work without JavaScript.
// The one script brings them up to date when something has changed, of which
// it hears by server-sent events: it asks for the same page again and changes
// what differs.
package console
