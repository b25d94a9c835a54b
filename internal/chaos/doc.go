// Package chaos is what stands between the programs and the network in a
// campaign: proxies in front of the broker and of the simulated systems that
// can be slow, cut off, or frozen at the very message or request that is asked
// for. So a program is stopped between two of its steps without knowing
// anything of it. For tests only; the programs never link it.
package chaos
