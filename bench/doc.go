// Command bench measures the transform beside the broker's own limit and
// beside what one would write instead: the naive loop and a Watermill router.
//
// One run alternates between all contenders, each on a nats-server process of
// its own with a fresh file store and in a client process of its own. What
// counts is read at the far end: a contender is done when its durable consumer
// has nothing pending, and then the output stream is read and checked, for
// each entity, for order and duplicates.
//
// It is a module of its own so that the peers stay out of the pipeline's
// go.mod. docs/performance.md says what the figures mean.
package main
