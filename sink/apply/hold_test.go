package apply_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/envelope"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/sink/apply"
	"github.com/causeway-sync/causeway/streams"
)

// TestMassDelete: what is too many is held without burning deliveries, and
// done when a person has released it, unless it has come back.
func TestMassDelete(t *testing.T) {
	d := newDesk(t, &mapping.Policy{MassDelete: &mapping.Hold{Count: 3, Percent: 5, Within: time.Hour}})
	d.contact = linked(d.contact, "m1", "")
	d.says(&d.contact)
	tasks := make([]canonical.Event, 6)
	var want []string
	for i := range tasks {
		id := canonical.ExternalID(fmt.Sprintf("a%d", i))
		d.items[id] = apply.Ref{Kind: canonical.KindTask, Parent: "m1", ID: id}
		tasks[i] = canonical.NewEvent(canonical.KindTask, canonical.NewID(tenant, canonical.KindTask, canonical.Novi, id))
		tasks[i].SetContactID(d.contact.ID())
		tasks[i] = linked(tasks[i], id, "m1")
		tasks[i].SetDeleted(true)
		d.says(&tasks[i])
		if i < 3 {
			want = append(want, fmt.Sprintf("delete {task m1 %s}", id))
		}
	}
	d.did(want...)
	d.says(&tasks[4]) // whatever else is said of it
	d.did(want...)
	consumer, err := d.JetStream().Consumer(t.Context(), streams.CANONICAL, streams.Sink(canonical.Novi, tenant).Durable)
	if err != nil {
		t.Fatal(err)
	}
	if info := consumer.CachedInfo(); info.NumRedelivered > 0 || info.NumAckPending > 0 {
		t.Errorf("%d are delivered again, %d are not acked", info.NumRedelivered, info.NumAckPending)
	}
	letters := bustest.All(t, d.Conn, streams.DEAD)
	var letter envelope.DeadLetter
	if len(letters) != 1 || json.Unmarshal(letters[0].Data, &letter) != nil || letter.Stage != "sink" || letter.Tenant != tenant {
		t.Errorf("the letters: %v", letters)
	}

	if n, err := hold.Release(t.Context(), d.Conn, tenant, false, time.Now()); err != nil || n != 3 {
		t.Fatalf("%d are released: %v", n, err)
	}
	tasks[3].SetDeleted(false) // it came back meanwhile
	for i := 3; i < 6; i++ {
		tasks[i].Cause.Via = string(observation.Wake) // as the transform makes it of a wake
		d.says(&tasks[i])
	}
	want = append(want, "delete {task m1 a4}", "delete {task m1 a5}")
	d.did(want...)
	if left, err := hold.List(t.Context(), d.Conn); err != nil || len(left) > 0 {
		t.Errorf("left: %+v %v", left, err)
	}
}
