// Package canonical is the domain: what a contact and a tag are once both
// systems' fields have been brought to one form, and the events that say how
// they changed. It does no I/O, knows no clock and imports nothing of the
// project.
//
// Everything in it is under the compatibility promise of package schemas,
// except [Sync], which belongs to the transform alone.
package canonical
