package transform

import (
	"context"
	"hash/maphash"
	"strings"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/schemas/observation"
	"github.com/causeway-sync/causeway/streams"
	"github.com/causeway-sync/causeway/transform/identity"
)

// notice ends the subject of a notice.
const notice = "." + string(observation.Notice)

// row is how many observations are looked at together: enough for a round trip
// to the broker to be nothing for each.
const row = 256

// dispatcher sees RAW in order: it decodes, resolves and hands on. It takes
// what is there, at most a row, and looks up together what resolving the row
// will ask for. Then each is resolved in its turn, and handed on when the
// broker has confirmed what was claimed for it.
type dispatcher struct {
	cfg      Config
	resolver *identity.Resolver
	in       chan *bus.Delivery
	shards   []*shard
	seed     maphash.Seed
}

// sight is an observation that was read and is to be resolved.
type sight struct {
	o      observation.Observation
	record identity.Record
	job    job
}

func (d *dispatcher) take(_ context.Context, m *bus.Delivery) {
	if strings.HasSuffix(m.Subject, notice) {
		m.Done(nil) // a hint, which hydrate has been handed too
		return
	}
	d.in <- m
}

// run works until in is closed.
func (d *dispatcher) run(ctx context.Context) {
	sights := make([]sight, 0, row)
	for m := range d.in {
		sights = d.add(sights[:0], m)
	more:
		for len(sights) < row {
			select {
			case m, ok := <-d.in:
				if !ok {
					break more
				}
				sights = d.add(sights, m)
			default:
				break more
			}
		}
		for rest := sights; len(rest) > 0; {
			rest = rest[d.work(ctx, rest):]
		}
		clear(sights) // what is done with needn't be kept
	}
}

func (d *dispatcher) add(sights []sight, m *bus.Delivery) []sight {
	s, err := d.read(m)
	if err != nil || s.job.tenant == "" {
		m.Done(err)
		return sights
	}
	return append(sights, s)
}

// work resolves sights and hands them on, up to and with the first that is
// about two entities: whose the records after that are may depend on it. It
// returns how many those are.
func (d *dispatcher) work(ctx context.Context, sights []sight) int {
	records := make([]identity.Record, 0, len(sights))
	for _, s := range sights {
		if s.record.Tenant != "" {
			records = append(records, s.record)
		}
	}
	d.resolver.Warm(ctx, records, d.lookup())
	defer d.resolver.Forget()
	d.resolver.Take()
	type answer struct {
		job job
		err error
	}
	answers := make([]answer, 0, len(sights))
	for _, s := range sights {
		j, err := d.resolve(ctx, s)
		if answers = append(answers, answer{j, err}); j.with != nil {
			break
		}
	}
	if ok, _ := d.resolver.Confirm(); ok {
		for i, a := range answers {
			d.hand(sights[i].job.delivery, a.job, a.err)
		}
		return len(answers)
	}
	// Another instance was first with a claim, or it could not be taken: once
	// more, waiting for each.
	d.resolver.Forget()
	for i, a := range answers {
		d.resolver.Void(sights[i].job.seen.System, a.job.id)
	}
	for i, s := range sights[:len(answers)] {
		j, err := d.resolve(ctx, s)
		if d.hand(s.job.delivery, j, err); j.with != nil {
			return i + 1
		}
	}
	return len(answers)
}

// hand hands a job on. One about two entities is waited for.
func (d *dispatcher) hand(m *bus.Delivery, j job, err error) {
	if err != nil || j.id == "" {
		m.Done(err)
		return
	}
	d.send(j)
	if j.with != nil {
		j.id = j.with.other
		d.send(j)
		<-j.with.done
	}
}

// send puts j into the queue of its entity. Since there is one dispatcher, any
// two jobs that are in the same two queues are in the same order in both.
func (d *dispatcher) send(j job) {
	d.shards[maphash.String(d.seed, string(j.id))%uint64(len(d.shards))].in <- j
}

// lookup is nil if the broker always waits.
func (d *dispatcher) lookup() identity.Lookup {
	looker, ok := d.cfg.Bus.(bus.Looker)
	if !ok {
		return nil
	}
	return func(ctx context.Context, tenant canonical.Tenant, kind canonical.Kind, id canonical.CanonicalID, done func(bus.Stored, error)) error {
		return looker.LastAsync(ctx, streams.CANONICAL, streams.Entity(kind, tenant, id), done)
	}
}
