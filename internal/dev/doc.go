// Package dev is what `causeway dev` is made of, and the whole-program tests
// with it: two simulated systems, a broker, the three stages in this process
// or as programs of their own, people who edit on both sides, and a judge who
// reads the simulators' ledgers and nothing of ours.
//
// The stages are started as in production: from a configuration file, with
// secrets in files, over real HTTP and a real JetStream server. They can't
// know that what they talk to is simulated.
package dev
