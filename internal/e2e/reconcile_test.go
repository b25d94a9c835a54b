package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

// TestReconcile lets people change Novi without anybody telling us, has it
// reconciled, and then puts a backup of one member back.
func TestReconcile(t *testing.T) {
	w := world(t, dev.Options{NoWebhooks: true})
	edit := func(e novisim.Edit) string {
		t.Helper()
		id, err := w.Novi.Edit(e)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	person := func(name string) string {
		return edit(novisim.Edit{Fields: map[string]any{"FirstName": name, "LastName": "Imhof", "Name": name + " Imhof", "Email": strings.ToLower(name) + "@example.org", "CustomerType": "Person", "JobTitle": "Guide"}})
	}
	ada, eva, kim := person("Ada"), person("Eva"), person("Kim")
	here(t, w)
	c := connect(t, w)
	ghl := func(name string) (title string, there bool) {
		for _, x := range w.GHL.Dump(dev.Location) {
			shown, err := w.Show(canonical.GHL, x.ID)
			if err != nil {
				t.Fatal(err)
			}
			if shown["first_name"] == name {
				return shown["job_title"], true
			}
		}
		return "", false
	}
	bustest.Until(t, func() bool { return len(w.GHL.Dump(dev.Location)) == 3 })
	if err := w.Quiet(t.Context(), c, time.Second); err != nil {
		t.Fatal(err)
	}
	reconcile := func(code int, args ...string) streams.Reconcile {
		t.Helper()
		got, out, errs := program(t, nil, "causeway", append([]string{"reconcile", "novi", "--json", "--nats", "nats://" + w.NATSAddr}, args...)...)
		var r streams.Reconcile
		if err := json.Unmarshal([]byte(out), &r); err != nil || got != code {
			t.Fatalf("exit code %d, want %d: %v: %s%s", got, code, err, out, errs)
		}
		return r
	}

	edit(novisim.Edit{MemberID: ada, Fields: map[string]any{"JobTitle": "Ranger"}})
	edit(novisim.Edit{MemberID: eva, Remove: true})
	person("Lou")
	want := streams.Drift{Total: 3, Read: 3, Same: 1, Differing: 1, MissingHere: 1, MissingThere: 1}
	if got := reconcile(0, "--dry-run"); got.Drift[canonical.KindContact] != want || len(got.Differences) != 3 {
		t.Errorf("only looked at: %+v", got)
	}
	if got := reconcile(1, "--max", "2"); got.State != streams.ReconcileHeld {
		t.Errorf("more than may be: %+v", got)
	}
	if _, there := ghl("Lou"); there {
		t.Error("what was only looked at has travelled")
	}
	if got := reconcile(0); got.State != streams.ReconcileDone || got.Drift[canonical.KindContact].Repaired != 3 {
		t.Errorf("got %+v", got)
	}
	bustest.Until(t, func() bool { title, _ := ghl("Ada"); _, there := ghl("Lou"); return title == "Ranger" && there })
	if err := w.Quiet(t.Context(), c, time.Second); err != nil {
		t.Fatal(err)
	}
	if got := reconcile(0); got.Drift[canonical.KindContact].Found() > 0 {
		t.Errorf("after the repair it finds %+v", got)
	}

	// Novi is restored from a backup of before: Ada is a guide again, and Kim is
	// not there.
	edit(novisim.Edit{MemberID: ada, Fields: map[string]any{"JobTitle": "Guide"}})
	edit(novisim.Edit{MemberID: kim, Remove: true})
	if got := reconcile(0, "--restored"); got.Drift[canonical.KindContact].Repaired != 2 {
		t.Errorf("got %+v", got)
	}
	members := func() map[string]string {
		titles := map[string]string{}
		for _, m := range w.Novi.Dump() {
			shown, err := w.Show(canonical.Novi, m.UniqueID)
			if err != nil {
				t.Fatal(err)
			}
			titles[shown["first_name"]] = shown["job_title"]
		}
		return titles
	}
	bustest.Until(t, func() bool { m := members(); return m["Ada"] == "Ranger" && m["Kim"] == "Guide" })
	if err := w.Quiet(t.Context(), c, time.Second); err != nil {
		t.Fatal(err)
	}
	if title, _ := ghl("Ada"); title != "Ranger" {
		t.Errorf("the backup has dragged GHL back: %q", title)
	}
	if n := len(w.GHL.Dump(dev.Location)); n != 4 {
		t.Errorf("there are %d contacts in GHL", n)
	}
}
