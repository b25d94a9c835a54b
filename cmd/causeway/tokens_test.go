package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/causeway-sync/causeway/internal/tokens"
)

func TestPrintTokens(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	good := tokens.Grant{Generation: 7, Access: "access-0123456789", Refresh: "refresh-0123456789", Obtained: now, Expires: now.Add(time.Hour), Location: "loc1", Scope: "contacts.readonly"}
	doubt := good
	doubt.Pending = &tokens.Pending{By: "host-1/x", Since: now.Add(-time.Hour)}
	list := []tokens.Listed{
		{Owner: tokens.Owner{Tenant: "alpine-guild"}, Grant: good, KeyID: "aa11"},
		{Owner: tokens.Owner{Company: "cmp1"}, Grant: doubt, KeyID: "aa11"},
		{Owner: tokens.Owner{Tenant: "open-club"}, KeyID: "bb22", Err: errors.New("it is sealed with a key that is not configured")},
		{Owner: tokens.Owner{Tenant: "old-club"}, Grant: tokens.Grant{Gone: true}, KeyID: "aa11"},
	}
	var out strings.Builder
	if err := printTokens(&out, list, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"tenant alpine-guild", "good", "agency cmp1", "in doubt, by host-1/x since", "not configured", "uninstalled", "aa11", "bb22"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "0123456789") {
		t.Errorf("it shows a token:\n%s", out.String())
	}
}
