package verify

import (
	"context"
	"errors"
	"time"

	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/apierr"
	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/ghlapi"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/noviapi"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
)

// lane is the last one: what is live goes before.
const lane = budget.Reconcile

// record is one record in canonical terms.
type record struct {
	id       canonical.ExternalID
	shown    mapping.Shown
	modified int64 // in microseconds, or 0
}

// side is one of the two systems.
type side struct {
	system canonical.System
	create bool // entities that have no record here are to get one
	// list calls each with every record at least once, as the list shows it.
	list func(ctx context.Context, each func(record)) error
	// get returns a record as it is now; the class of its error is Gone if it
	// is not there.
	get func(ctx context.Context, id canonical.ExternalID) (record, error)
}

// attempts is how often a call is made that fails for a reason that passes.
const attempts = 6

func try[T any](ctx context.Context, clk clock.Clock, call func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := call()
		var e *apierr.Error
		if n == attempts || !errors.As(err, &e) || (e.Class != apierr.Wait && e.Class != apierr.Retry) || errors.Is(err, budget.ErrDailySpent) {
			return v, err
		}
		if err := clock.Sleep(ctx, clk, max(e.RetryAfter, 250*time.Millisecond<<n)); err != nil {
			return v, err
		}
	}
}

const ghlPage = 500 // the most that GHL gives (dossier GHL §3.3)

func (c Config) ghl(ctx context.Context) (*side, []string, error) {
	fields, err := try(ctx, c.Clock, func() ([]ghlapi.CustomField, error) { return c.GHL.CustomFields(ctx, lane) })
	if err != nil {
		return nil, nil, err
	}
	names := make(map[string]string, len(fields))
	for _, f := range fields {
		names[f.ID] = f.FieldKey
	}
	show := func(endpoint string, r ghlapi.Record) (record, error) {
		return show(c.Lens, observation.Observation{System: canonical.GHL, ExternalID: canonical.ExternalID(r.ID), Endpoint: endpoint,
			Names: names, Modified: r.Modified, Record: r.Raw})
	}
	s := &side{system: canonical.GHL, create: c.CreateGHL}
	s.get = func(ctx context.Context, id canonical.ExternalID) (record, error) {
		r, err := try(ctx, c.Clock, func() (ghlapi.Record, error) { return c.GHL.GetContact(ctx, lane, string(id)) })
		if err != nil {
			return record{}, err
		}
		return show(observation.GHLContactGet, r)
	}
	s.list = func(ctx context.Context, each func(record)) error {
		// By date of creation, which doesn't move.
		request := ghlapi.SearchRequest{PageLimit: ghlPage, Sort: []ghlapi.Sort{{Field: "dateAdded", Direction: "asc"}}}
		for {
			page, err := try(ctx, c.Clock, func() (ghlapi.SearchPage, error) { return c.GHL.SearchContacts(ctx, lane, request) })
			if err != nil {
				return err
			}
			for _, r := range page.Contacts {
				row, err := show(observation.GHLContactSearch, r)
				if err != nil {
					return err
				}
				each(row)
			}
			if len(page.Contacts) < ghlPage || len(page.SearchAfter) == 0 {
				return nil
			}
			request.SearchAfter = page.SearchAfter
		}
	}
	// What an empty record covers is what its endpoint covers.
	empty := ghlapi.Record{Raw: json.RawMessage("{}")}
	row, err := show(observation.GHLContactSearch, empty)
	if err != nil {
		return nil, nil, err
	}
	whole, err := show(observation.GHLContactGet, empty)
	if err != nil {
		return nil, nil, err
	}
	var unlisted []string
	for _, b := range c.Lens.Bindings {
		_, listed := row.shown.Fields[b.Field]
		_, fetched := whole.shown.Fields[b.Field]
		if fetched && !listed && b.GHL.Write == mapping.Always {
			unlisted = append(unlisted, b.Field)
		}
	}
	return s, unlisted, nil
}

const (
	noviPage = 200
	// noviOverlap is how many rows pages share, for members that moved, and
	// noviWalks how often a walk may begin again because members came or went
	// under it (dossier Novi §7).
	noviOverlap = 5
	noviWalks   = 3
)

func (c Config) novi() *side {
	s := &side{system: canonical.Novi, create: c.CreateNovi}
	show := func(endpoint string, r noviapi.Record) (record, error) {
		return show(c.Lens, observation.Observation{System: canonical.Novi, ExternalID: canonical.ExternalID(r.ID), Endpoint: endpoint,
			Modified: r.Modified, Record: r.Raw})
	}
	s.get = func(ctx context.Context, id canonical.ExternalID) (record, error) {
		r, err := try(ctx, c.Clock, func() (noviapi.Record, error) { return c.Novi.GetMember(ctx, lane, string(id)) })
		if err != nil {
			return record{}, err
		}
		return show(observation.NoviMemberGet, r)
	}
	s.list = func(ctx context.Context, each func(record)) error {
		walks, total := 1, -1
		for offset := 0; ; {
			page, err := try(ctx, c.Clock, func() (noviapi.Page, error) {
				return c.Novi.ListMembers(ctx, lane, noviapi.ListRequest{Offset: offset, PageSize: noviPage})
			})
			if err != nil {
				return err
			}
			for _, r := range page.Members {
				row, err := show(observation.NoviMemberList, r)
				if err != nil {
					return err
				}
				each(row)
			}
			moved := offset > 0 && page.TotalCount != total
			total = page.TotalCount
			switch {
			case moved && walks < noviWalks:
				walks++
				offset = 0
			case len(page.Members) < noviPage:
				return nil
			default:
				offset += noviPage - noviOverlap
			}
		}
	}
	return s
}

func show(lens *mapping.Lens, o observation.Observation) (record, error) {
	shown, err := lens.Show(o)
	if err != nil {
		return record{}, err
	}
	r := record{id: o.ExternalID, shown: shown}
	if !o.Modified.IsZero() {
		r.modified = o.Modified.UnixMicro()
	}
	return r, nil
}
