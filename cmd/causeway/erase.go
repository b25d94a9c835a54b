package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/erase"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

type eraseCmd struct {
	entity
	Yes bool `help:"Do it. Without this the command only says what there is. It can't be undone."`
}

// Run erases a person, or says what that would take.
func (c *eraseCmd) Run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ref, err := c.find(ctx, conn)
	if err != nil {
		return err
	}
	if ref.Kind != canonical.KindContact {
		return fmt.Errorf("%s is a %s: a person is erased by a contact", ref.ID, ref.Kind)
	}
	var r erase.Report
	if c.Yes {
		r, err = erase.Run(ctx, conn, clock.System{}, ref.Tenant, ref.ID)
	} else {
		r, err = erase.Plan(ctx, conn, ref.Tenant, ref.ID)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(os.Stdout, r)
	} else {
		err = printErased(os.Stdout, r, c.Yes)
	}
	if err == nil && len(r.Left) > 0 {
		err = fmt.Errorf("%d messages still name the person", len(r.Left))
	}
	return err
}

func printErased(out io.Writer, r erase.Report, done bool) error {
	var b strings.Builder
	for _, e := range r.Entities {
		fmt.Fprintf(&b, "%s %s\n", e.Kind, e.ID)
	}
	for _, x := range r.Records {
		fmt.Fprintf(&b, "%s %s record %s\n", x.System, x.Kind, x.External)
	}
	for _, stream := range slices.Sorted(maps.Keys(r.Messages)) {
		fmt.Fprintf(&b, "%s: %d messages\n", strings.Replace(stream, "KV_", "bucket ", 1), r.Messages[stream])
	}
	if len(r.Shared) > 0 {
		fmt.Fprintf(&b, "another contact shows these as well, so they were not looked for: %s\n", strings.Join(r.Shared, ", "))
	}
	if !done {
		b.WriteString("nothing was done: --yes erases all of it, for good. Delete the person in GHL and in Novi first.\n")
		_, err := io.WriteString(out, b.String())
		return err
	}
	b.WriteString("erased; a late notice or poll of these records is dropped\n")
	if n := len(r.Others); n > 0 {
		fmt.Fprintf(&b, "%d messages about others named the person and were removed\n", n)
	}
	for _, f := range r.Left {
		fmt.Fprintf(&b, "left: message %d of %s\n", f.Seq, f.Stream)
	}
	if len(r.Left) == 0 {
		b.WriteString("looked through every stream and bucket: nothing is left\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}
