// Package check reads what a pipeline has left behind, RAW, CANONICAL, EFFECTS,
// DEAD and the claims, and decides whether it kept its word: [Run]. It calls no
// system, decides nothing anew and writes nothing. What is under way is not
// wrong: the position of each durable consumer says what it had settled, and
// only that is held against it.
//
// It makes one pass over each stream and keeps little: one byte for a message
// of RAW; some 300 bytes for a record that RAW names; of an entity some 400
// bytes, and 32 for each of its versions that CANONICAL has kept, of which
// there are at most 64 an operation; some 300 bytes for an entity at a
// destination. The streams' ends are taken before the passes, first those of
// what follows from others, so that whatever a message refers to has been read,
// though the pipeline goes on meanwhile.
//
// What a stream no longer keeps is no loss: RAW keeps 30 days, CANONICAL and
// EFFECTS 64 messages a subject, and what is missing has to be older than the
// oldest of a subject that is full.
package check
