package dev

import (
	"net"
	"testing"
)

// TestFreeAddress: no two are the same, also while nobody listens, and none is
// one that the system gives to a connection of its own accord.
func TestFreeAddress(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		address, err := freeAddress()
		if err != nil {
			t.Fatal(err)
		}
		at, err := net.ResolveTCPAddr("tcp", address)
		if err != nil || at.Port < firstPort || at.Port >= 32768 || seen[address] {
			t.Fatalf("got %s, %v; seen before: %t", address, err, seen[address])
		}
		seen[address] = true
	}
}
