package bus_test

import (
	"errors"
	"testing"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/streams"
)

type lookedUp struct {
	value string
	seq   uint64
	err   error
}

func TestLastAsync(t *testing.T) {
	c := bustest.Start(t)
	for _, s := range []string{"canonical.contact.a.x.created", "canonical.contact.a.x.updated", "canonical.contact.a.y.created"} {
		publish(t, c, bus.Message{Subject: s, Header: bus.Header{"ce-id": {s}}, Data: []byte(s)})
	}
	tests := []struct {
		name, subject, want string
		seq                 uint64
		err                 error
	}{
		{"of all subjects of an entity", "canonical.contact.a.x.*", "canonical.contact.a.x.updated", 2, nil},
		{"of one subject", "canonical.contact.a.x.created", "canonical.contact.a.x.created", 1, nil},
		{"of none", "canonical.contact.a.z.*", "", 0, bus.ErrNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan bus.Stored, 1)
			failed := make(chan error, 1)
			if err := c.LastAsync(t.Context(), streams.CANONICAL, tt.subject, func(m bus.Stored, err error) { got <- m; failed <- err }); err != nil {
				t.Fatal(err)
			}
			m, err := <-got, <-failed
			if !errors.Is(err, tt.err) || string(m.Data) != tt.want || m.Seq != tt.seq || m.Subject != tt.want {
				t.Errorf("got %q at %d, %v; want %q at %d, %v", m.Data, m.Seq, err, tt.want, tt.seq, tt.err)
			}
			if err == nil && (m.Time.IsZero() || len(m.Header["ce-id"]) != 1) {
				t.Errorf("got time %v, header %v", m.Time, m.Header)
			}
		})
	}
	if err := c.LastAsync(t.Context(), "NONE", "x", func(bus.Stored, error) { t.Error("done of what was not asked") }); err == nil {
		t.Error("no error for a stream that is not there")
	}
}

func TestKVAsync(t *testing.T) {
	c := bustest.Start(t)
	kv, err := c.Bucket(t.Context(), streams.IDENTITY)
	if err != nil {
		t.Fatal(err)
	}
	async, ok := kv.(bus.AsyncKV)
	if !ok {
		t.Fatal("a bucket that can't be asked without waiting")
	}
	get := func(key string) lookedUp {
		t.Helper()
		got := make(chan lookedUp, 1)
		if err := async.GetAsync(t.Context(), key, func(v []byte, seq uint64, err error) { got <- lookedUp{string(v), seq, err} }); err != nil {
			t.Fatal(err)
		}
		return <-got
	}
	create := func(key, value string) error {
		t.Helper()
		got := make(chan error, 1)
		if err := async.CreateAsync(t.Context(), key, []byte(value), func(_ uint64, err error) { got <- err }); err != nil {
			t.Fatal(err)
		}
		return <-got
	}
	if got := get("a.x"); !errors.Is(got.err, bus.ErrNotFound) {
		t.Errorf("a key that is not there: %+v", got)
	}
	if err := create("a.x", "one"); err != nil {
		t.Fatal(err)
	}
	if err := create("a.x", "two"); !errors.Is(err, bus.ErrExists) {
		t.Errorf("got %v, want that it exists", err)
	}
	if got, want := get("a.x"), (lookedUp{"one", 1, nil}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if value, rev, err := kv.Get(t.Context(), "a.x"); err != nil || string(value) != "one" || rev != 1 {
		t.Errorf("got %q at %d, %v: what is created in one way is found in the other", value, rev, err)
	}
	if err := kv.Delete(t.Context(), "a.x", 0); err != nil {
		t.Fatal(err)
	}
	if got := get("a.x"); !errors.Is(got.err, bus.ErrNotFound) {
		t.Errorf("a key that was deleted: %+v", got)
	}
}
