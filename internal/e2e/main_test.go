package e2e_test

import (
	"context"
	"os"
	"testing"
)

// ctx is for what outlives a single test.
var ctx = context.Background()

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := programs(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}
