package e2e_test

import (
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/internal/dev"
)

// rebuilt fails unless RAW, read into nothing, gives what CANONICAL holds, and a
// replay of all that was seen would cause no call.
func rebuilt(t *testing.T, w *dev.World) {
	t.Helper()
	if code, out, errs := program(t, nil, "causeway", "replay", "check", "--config", w.ConfigPath); code != 0 {
		t.Errorf("replay check: %d %s%s", code, out, errs)
	}
	code, out, errs := program(t, nil, "causeway", "replay", "raw", "--plan", "--config", w.ConfigPath)
	if code != 0 || !strings.Contains(out, "ghl: 0 writes to 0 records, and 0 reads;") || !strings.Contains(out, "novi: 0 writes to 0 records, and 0 reads;") {
		t.Errorf("replay raw --plan: %d %s%s", code, out, errs)
	}
}
