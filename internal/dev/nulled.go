package dev

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/novisim"
)

// nulled counts the values at Novi that a write through the API took away
// although the lens gives nobody the writing of that field: a PUT replaces the
// whole record, so a client that doesn't put back what it has read clears the
// rest (dossier Novi §12.1). A value that the API had not shown before the PUT
// is not counted, since no client could have put it back; nor is one that is
// written again afterwards, which is how what was overwritten is repaired.
// where says in words which, at most three.
func nulled(lens *mapping.Lens, ledger []novisim.LedgerEntry) (n int, where []string) {
	type field struct{ record, name string }
	given := map[field]int64{} // the entry that gave the value which is there
	lost := map[field]any{}
	var order []field
	ours := writtenAtNovi(lens)
	for _, e := range ledger {
		for _, c := range e.Changes {
			f := field{e.RecordID, c.Field}
			if empty(c.To) && !empty(c.From) && e.Actor == novisim.ActorAPI && e.Op == novisim.OpUpdate && given[f] <= e.ReadAt && !ours[e.Kind][c.Field] {
				if _, twice := lost[f]; !twice {
					order = append(order, f)
				}
				lost[f] = c.From
			} else if e.Actor == novisim.ActorAPI && reflect.DeepEqual(c.To, lost[f]) {
				delete(lost, f)
			}
			given[f] = e.Seq
		}
	}
	for _, f := range order {
		if _, still := lost[f]; !still {
			continue
		}
		if n++; n <= 3 {
			where = append(where, fmt.Sprintf("%s of %s was nulled by a PUT, and is no field that is written", f.name, f.record))
		}
	}
	return n, where
}

func empty(v any) bool { return v == nil || v == "" || v == false }

// writtenAtNovi names, as the ledger does, the fields that Causeway may write,
// by the ledger's kinds.
func writtenAtNovi(lens *mapping.Lens) map[string]map[string]bool {
	member := map[string]bool{lens.NoviRef: true, "CustomFields." + lens.Tags.NoviField: true,
		"Active": true} // how a delete is written
	activity := map[string]bool{"TaskCompletedDate": true} // goes with TaskComplete
	add := func(to map[string]bool, list []mapping.Binding) {
		for _, b := range list {
			if b.Novi.Path == "" || b.Novi.Write == mapping.Never {
				continue
			}
			if name, custom := strings.CutPrefix(b.Novi.Path, mapping.CustomPath); custom {
				to["CustomFields."+name] = true
			} else {
				to[b.Novi.Path] = true
			}
		}
	}
	add(member, lens.Bindings)
	for _, list := range lens.Items {
		add(activity, list)
	}
	return map[string]map[string]bool{novisim.KindMember: member, novisim.KindActivity: activity}
}
