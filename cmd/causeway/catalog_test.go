package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/catalog"
)

func TestCatalogPrints(t *testing.T) {
	var text, data bytes.Buffer
	if err := (&catalogCmd{System: "ghl", Kind: "action"}).print(&text); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if want := len(catalog.Find(catalog.GHL, catalog.Action)) + 1; len(lines) != want || strings.Contains(text.String(), "novi.") {
		t.Errorf("got %d lines, want %d", len(lines), want)
	}
	if err := (&catalogCmd{JSON: true}).print(&data); err != nil {
		t.Fatal(err)
	}
	var all []catalog.Entry
	if err := json.Unmarshal(data.Bytes(), &all); err != nil || len(all) != len(catalog.All()) {
		t.Errorf("got %d entries, %v", len(all), err)
	}
}
