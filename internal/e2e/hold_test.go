package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// TestMassDelete: 60 tasks go at once in GHL. So many wait for a person in
// Novi, and go when he says so.
func TestMassDelete(t *testing.T) {
	const tasks, few = 60, 20
	w := world(t, dev.Options{HoldCount: few})
	person, err := w.GHL.Edit(ghlsim.Edit{Kind: ghlsim.EditCreate, LocationID: dev.Location, Fields: map[string]any{"firstName": "Ada", "lastName": "Imhof", "email": "ada@example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	here(t, w)
	c := connect(t, w)
	url := c.JetStream().Conn().ConnectedUrl()
	var made []string
	for i := range tasks {
		id, err := w.GHL.EditItem(ghlsim.ItemEdit{Op: ghlsim.OpCreate, Kind: string(canonical.KindTask), LocationID: dev.Location, ContactID: person,
			Fields: map[string]any{"title": fmt.Sprintf("Call back #%d", i), "dueDate": "2027-01-04T10:00:00Z", "completed": false}})
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, id)
	}
	left := func() int { return len(w.Novi.Activities()) }
	bustest.Until(t, func() bool { return left() == tasks })
	if err := w.Quiet(t.Context(), c, time.Second); err != nil {
		t.Fatal(err)
	}

	for _, id := range made {
		if _, err := w.GHL.EditItem(ghlsim.ItemEdit{Op: ghlsim.OpDelete, Kind: string(canonical.KindTask), LocationID: dev.Location, ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Until(t, func() bool {
		held, err := hold.Show(t.Context(), c, dev.Tenant)
		return err == nil && len(held) == tasks-few
	})
	if err := w.Quiet(t.Context(), c, time.Second); err != nil {
		t.Fatal(err)
	}
	if got := left(); got != tasks-few {
		t.Errorf("%d of %d are left", got, tasks)
	}
	deleted := 0
	everything(t.Context(), t, c, streams.CANONICAL, func(m jetstream.Msg) {
		if p, err := streams.Parse(m.Subject()); err == nil && p.Op == canonical.OpDeleted {
			deleted++
		}
	})
	if deleted != tasks {
		t.Errorf("CANONICAL says that %d are deleted", deleted)
	}
	steps := []struct {
		args  []string
		code  int
		lines int
		want  string
	}{
		{[]string{"list"}, 0, 2, dev.Tenant + "  held"},
		{[]string{"list", "--json"}, 0, 1, fmt.Sprintf(`"waiting":%d`, tasks-few)},
		{[]string{"show", dev.Tenant}, 0, 1 + tasks - few, "delete     novi  task"},
		{[]string{"show", dev.Tenant, "--json"}, 0, tasks - few, `"operation":"delete"`},
		{[]string{"release", "nobody"}, 1, 1, "nothing is held"},
		{[]string{"release", dev.Tenant}, 0, 1, fmt.Sprintf("%d deletes go on", tasks-few)},
	}
	for _, step := range steps {
		code, out, errs := program(t, nil, "causeway", append(append([]string{"hold"}, step.args...), "--nats", url)...)
		if code != step.code || !strings.Contains(out+errs, step.want) || strings.Count(out+errs, "\n") != step.lines {
			t.Errorf("%v: %d %q %q, want %d and %q in %d lines", step.args, code, out, errs, step.code, step.want, step.lines)
		}
	}
	bustest.Until(t, func() bool { return left() == 0 })
	if err := w.Quiet(t.Context(), c, time.Second); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"hold", "list"}, {"dead", "list"}} {
		if code, out, errs := program(t, nil, "causeway", append(args, "--nats", url)...); code != 0 || out != "there are none\n" {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
}
