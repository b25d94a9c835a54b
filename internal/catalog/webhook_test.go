package catalog_test

import (
	"fmt"
	"testing"

	"github.com/causeway-sync/causeway/ingest/ghl"
	"github.com/causeway-sync/causeway/ingest/novi"
	"github.com/causeway-sync/causeway/internal/catalog"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// TestMappedWebhooksAreRead: ingest knows what they are about.
func TestMappedWebhooksAreRead(t *testing.T) {
	n := 0
	for _, e := range catalog.Find("", catalog.Trigger) {
		if !e.Mapped || e.Event == "" {
			continue
		}
		n++
		var err error
		if e.System == catalog.GHL {
			s := ghl.Source{Tenants: map[string]canonical.Tenant{"loc1": "a"}}
			_, err = s.Read(fmt.Appendf(nil, `{"type":%q,"locationId":"loc1","id":"x","contactId":"c","webhookId":"w"}`, e.Event))
		} else {
			_, err = novi.Source{Tenant: "a"}.Read(fmt.Appendf(nil, `{"event":%q,"entityUniqueId":"11111111-1111-4111-8111-111111111111"}`, e.Event))
		}
		if err != nil {
			t.Errorf("%s: %v", e.Event, err)
		}
	}
	if n < 17 {
		t.Errorf("only %d are mapped", n)
	}
}
