package streams_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-sync/causeway/streams"
)

// TestPermissionsFile holds the file that ships against the table.
func TestPermissionsFile(t *testing.T) {
	path := filepath.Join("..", "deploy", "nats-permissions.conf")
	if *update {
		if err := os.WriteFile(path, []byte(streams.PermissionsConfig()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != streams.PermissionsConfig() {
		t.Error("it is not what `causeway streams permissions` prints; go test ./streams -update rewrites it")
	}
}

// TestWhoPublishesWhere is the picture of the three stages: ingest sees,
// transform decides, sink does.
func TestWhoPublishesWhere(t *testing.T) {
	for prefix, only := range map[string][]streams.Role{
		"canonical.": {streams.RoleTransform},
		"effects.":   {streams.RoleSink},
		"$KV.TOKENS": {streams.RoleIngest, streams.RoleSink},
	} {
		for _, role := range streams.Roles() {
			publish, _ := streams.Permissions(role)
			may := slices.ContainsFunc(publish, func(s string) bool { return strings.HasPrefix(s, prefix) })
			if role != streams.RoleOperator && may != slices.Contains(only, role) {
				t.Errorf("%s may publish on %s: %t", role, prefix, may)
			}
		}
	}
}
