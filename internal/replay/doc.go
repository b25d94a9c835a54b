// Package replay reads again what RAW or CANONICAL hold.
//
// A replay of RAW is for a mapping that was wrong: what the systems showed is
// merged once more, as the mapping reads it now. Of each record the newest
// sight by each endpoint is published again, with a header that names the first
// ([observation.ReplayOf]), under whose sequence the transform merges it: what is older than
// what is known changes nothing, what reads as it did before neither. Nothing
// is fetched, and neither notices nor what the sinks were about to write are
// told again.
//
// A replay of CANONICAL has the sinks look again at entities: at their latest
// state, so that it writes nothing where EFFECTS is complete.
//
// How far one has come is in CURSORS, so that any process can go on with it
// ([Run]), and end it or let it rest ([Ask]). It waits for the transform, so
// that what has just changed never queues behind more than a little of it, and
// what the sinks write because of it goes in the lane of backfills.
//
// [Dry] is what a transform works on to find out what a replay would do, or
// whether RAW, read into nothing, gives what CANONICAL holds ([Compare]).
package replay
