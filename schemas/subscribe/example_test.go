package subscribe_test

import (
	"context"
	"fmt"
	"log"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/subscribe"
)

// A newsletter keeps the address of every contact who wants to have it: first
// of all there are, then of those that change.
func ExampleSubscription_Run() {
	ctx, stop := context.WithCancel(context.Background())
	nc, err := nats.Connect(association()) // yours is nats://…
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		log.Fatal(err)
	}

	addresses := map[canonical.CanonicalID]string{}
	s := subscribe.Subscription{Kinds: []canonical.Kind{canonical.KindContact}}
	err = s.Run(ctx, js, func(e subscribe.Event) error {
		if e.Contact.Deleted || e.MergedInto != "" || e.Contact.OptOuts.Email {
			delete(addresses, e.ID())
		} else {
			addresses[e.ID()] = e.Contact.Email
		}
		fmt.Println(e.Attributes.ID, e.Op, "snapshot:", e.Snapshot, "letters to:", len(addresses))
		if e.Version == 3 {
			stop() // only because this is an example
		}
		return nil
	}, func() error {
		fmt.Println("now it is up to date")
		return change()
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// bruno.1 created snapshot: true letters to: 1
	// ada.2 updated snapshot: true letters to: 2
	// now it is up to date
	// ada.3 updated snapshot: false letters to: 1
}
