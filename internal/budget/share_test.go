package budget_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/causeway-sync/causeway/internal/budget"
	"github.com/causeway-sync/causeway/internal/clock"
)

var (
	ghlWindows  = []budget.Window{{Calls: 100, Per: 10 * time.Second}}
	noviWindows = []budget.Window{{Calls: 20, Per: time.Second}, {Calls: 600, Per: time.Minute}}
)

func pass(d time.Duration) { _ = clock.Sleep(context.Background(), clock.System{}, d) }

// TestSaturated: one, three and six processes with more work than calls use at
// least 95 % of them and never more than all.
func TestSaturated(t *testing.T) {
	for name, windows := range map[string][]budget.Window{"ghl": ghlWindows, "novi": noviWindows, "tenfold": {{Calls: 1000, Per: 10 * time.Second}}} {
		for _, n := range []int{1, 3, 6} {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(uint64(n), windows...)
					defer close(w.done)
					var all []*process
					for i := range n {
						p := w.start(fmt.Sprint(i), time.Duration(i)*time.Second, budget.Limits{})
						lane := budget.Live
						if i%2 == 0 {
							lane = budget.Backfill
						}
						p.saturate(p.ctx, lane, 16)
						all = append(all, p)
					}
					last := windows[len(windows)-1]
					pass(last.Per + 5*time.Second)
					from := time.Now()
					pass(3 * last.Per)
					got, most := w.between(from, time.Now()), 3*last.Calls
					for _, p := range all {
						p.end()
					}
					if over := w.over(); over != "" {
						t.Error(over)
					}
					if got < most*95/100 {
						t.Errorf("%d of %d calls were used", got, most)
					}
					if perSecond := float64(w.writes) / time.Since(from).Seconds() / float64(n); perSecond > 8 {
						t.Errorf("%.1f writes to the broker a second by each process", perSecond)
					}
					t.Logf("%.1f %% used, %.1f writes a second by each process", 100*float64(got)/float64(most), float64(w.writes)/(last.Per*4+5*time.Second).Seconds()/float64(n))
				})
			})
		}
	}
}

// TestEchoes: each write of one process leads to two reads by another, which
// has more than enough of a share for them. What it doesn't need is used.
func TestEchoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, budget.Window{Calls: 1000, Per: 10 * time.Second})
		defer close(w.done)
		sink, ingest := w.start("sink", 0, budget.Limits{}), w.start("ingest", 0, budget.Limits{})
		echoes := make(chan struct{}, 100_000)
		for range 8 {
			sink.work.Go(func() {
				for sink.call(budget.Backfill) == nil {
					echoes <- struct{}{}
					echoes <- struct{}{}
				}
			})
			ingest.work.Go(func() {
				for {
					select {
					case <-echoes:
						if ingest.call(budget.Hydrate) != nil {
							return
						}
					case <-ingest.ctx.Done():
						return
					}
				}
			})
		}
		pass(20 * time.Second)
		from := time.Now()
		pass(time.Minute)
		got := w.between(from, time.Now())
		sink.end()
		ingest.end()
		t.Logf("%.1f %% used, %d echoes wait", float64(got)/60, len(echoes))
		if got < 5500 {
			t.Errorf("%d of 6000 calls were used", got)
		}
		if over := w.over(); over != "" {
			t.Error(over)
		}
	})
}

// TestLiveChange: while others backfill with all there is, a live change of a
// process that did nothing so far waits less than a second.
func TestLiveChange(t *testing.T) {
	for name, windows := range map[string][]budget.Window{"ghl": ghlWindows, "novi": noviWindows} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(4, windows...)
				defer close(w.done)
				var all []*process
				for i := range 3 {
					p := w.start(fmt.Sprint(i), 0, budget.Limits{})
					p.saturate(p.ctx, budget.Backfill, 8)
					all = append(all, p)
				}
				live := w.start("live", 0, budget.Limits{})
				all = append(all, live)
				pass(90 * time.Second)
				var worst time.Duration
				for range 50 {
					pass(w.upTo(6 * time.Second))
					began := time.Now()
					permit, err := live.b.Acquire(t.Context(), budget.Live, 1)
					if err != nil {
						t.Fatal(err)
					}
					worst = max(worst, time.Since(began))
					permit.Done()
				}
				for _, p := range all {
					p.end()
				}
				t.Logf("the longest wait was %s", worst)
				if worst > time.Second {
					t.Errorf("a live change waited %s", worst)
				}
			})
		})
	}
}

// TestGivesUp: what an idle process held is used by the others from two
// seconds later, as it comes to rest.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5, budget.Window{Calls: 1000, Per: 10 * time.Second})
		defer close(w.done)
		one, two := w.start("one", 0, budget.Limits{}), w.start("two", 0, budget.Limits{})
		ctx, stop := context.WithCancel(one.ctx)
		one.saturate(ctx, budget.Live, 16)
		two.saturate(two.ctx, budget.Backfill, 16)
		pass(30 * time.Second)
		stop()
		pass(2 * time.Second)
		from := time.Now()
		pass(20 * time.Second)
		got := w.between(from, time.Now())
		one.end()
		two.end()
		t.Logf("%.1f %% used", float64(got)/20)
		if got < 1600 {
			t.Errorf("%d of 2000 calls were used", got)
		}
	})
}

// TestYields: who backfills with all there is makes room for live writes as
// fast as its slots rest.
func TestYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(6, budget.Window{Calls: 1000, Per: 10 * time.Second})
		defer close(w.done)
		one, two := w.start("one", 0, budget.Limits{}), w.start("two", 0, budget.Limits{})
		one.saturate(one.ctx, budget.Backfill, 16)
		pass(15 * time.Second)
		two.saturate(two.ctx, budget.Live, 16)
		pass(12 * time.Second)
		one.end()
		before := w.between(time.Time{}, time.Now())
		pass(10 * time.Second)
		got := w.between(time.Time{}, time.Now()) - before
		two.end()
		if over := w.over(); over != "" {
			t.Error(over)
		}
		if got < 500 {
			t.Errorf("live writes had %d of 1000 calls", got)
		}
	})
}

// TestTakenOver: what a process held that is killed, or frozen in the midst of
// its work, is used by another as soon as it may be and no sooner.
func TestTakenOver(t *testing.T) {
	for _, how := range []string{"killed", "frozen"} {
		for name, windows := range map[string][]budget.Window{"ghl": ghlWindows, "novi": noviWindows, "short": {{Calls: 300, Per: 2 * time.Second}}} {
			for idle := range 4 {
				t.Run(fmt.Sprint(how, name, idle), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(uint64(idle), windows...)
						defer close(w.done)
						one, two := w.start("one", 4*time.Second, budget.Limits{}), w.start("two", 0, budget.Limits{})
						ctx, stop := context.WithCancel(one.ctx)
						one.saturate(ctx, budget.Live, 16)
						pass(time.Duration(1+7*idle) * time.Second)
						if how == "killed" {
							one.kill()
						} else {
							one.freeze()
						}
						two.saturate(two.ctx, budget.Backfill, 16)
						pass(time.Duration(2+5*idle) * time.Second)
						if how == "frozen" {
							one.thaw()
						}
						pass(80 * time.Second)
						stop()
						two.end()
						if how == "frozen" {
							one.end()
						}
						if over := w.over(); over != "" {
							t.Error(over)
						}
						last := windows[len(windows)-1]
						if got := w.between(time.Now().Add(-last.Per), time.Now()); got < last.Calls*7/10 {
							t.Errorf("at the end %d of %d calls were used", got, last.Calls)
						}
					})
				})
			}
		}
	}
}

// TestNeverOver: whatever happens to processes and broker, no window ever
// holds more calls than the limit.
func TestNeverOver(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var over string
		seed := rapid.Uint64().Draw(rt, "seed")
		windows := rapid.SampledFrom([][]budget.Window{ghlWindows, noviWindows, {{Calls: 7, Per: 3 * time.Second}}, {{Calls: 300, Per: 2 * time.Second}}}).Draw(rt, "windows")
		n := rapid.IntRange(1, 5).Draw(rt, "processes")
		lossy := rapid.SampledFrom([]float64{0, 0, 0.1}).Draw(rt, "lost answers")
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"idle", "busy", "busy", "freeze", "thaw", "kill", "end", "start", "away", "back", "wait", "wait", "wait"}), 5, 40).Draw(rt, "steps")
		synctest.Test(t, func(*testing.T) {
			w := newWorld(seed, windows...)
			defer close(w.done)
			w.lossy = lossy
			type one struct {
				*process
				stop   context.CancelFunc
				frozen bool
			}
			var all []*one
			start := func() {
				all = append(all, &one{process: w.start(fmt.Sprint(len(all)), w.upTo(10*time.Second)-5*time.Second, budget.Limits{})})
			}
			busy := func(p *one) {
				var ctx context.Context
				ctx, p.stop = context.WithCancel(p.ctx)
				p.saturate(ctx, budget.Lanes()[w.upTo(5)], 1+int(w.upTo(20)))
			}
			for i := range n {
				start()
				if i%2 == 0 {
					busy(all[i])
				}
			}
			thaw := func(p *one) {
				if p.frozen {
					p.frozen = false
					p.thaw()
				}
			}
			for _, step := range steps {
				i := int(w.upTo(time.Duration(len(all))))
				p := all[i]
				switch step {
				case "busy":
					if p.stop == nil {
						busy(p)
					}
				case "idle":
					if p.stop != nil {
						p.stop()
						p.stop = nil
					}
				case "freeze":
					if !p.frozen {
						p.frozen = true
						p.freeze()
					}
				case "thaw":
					thaw(p)
				case "kill", "end":
					thaw(p)
					if step == "kill" {
						p.kill()
					} else {
						p.end()
					}
					start()
					all[i] = all[len(all)-1]
					all = all[:len(all)-1]
				case "start":
					if len(all) < 6 {
						start()
					}
				case "away", "back":
					w.mu.Lock()
					w.away = step == "away"
					w.mu.Unlock()
				}
				pass(w.upTo(8 * time.Second))
			}
			for _, p := range all {
				thaw(p)
				if p.stop != nil {
					p.stop()
				}
				p.end()
			}
			over = w.over()
		})
		if over != "" {
			rt.Fatal(over)
		}
	})
}
