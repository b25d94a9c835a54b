package main

import (
	"context"
	"encoding/csv"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 4 && args[0] == "serve":
		err = serve(args[1], args[2] == "always", args[3])
	case len(args) == 4 && args[0] == "work":
		err = work(args[1], args[2], args[3])
	default:
		err = compare()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// compare runs all contenders in turn, several times, and prints the table.
func compare() error {
	rounds := flag.Int("rounds", 4, "how often each contender runs")
	n := flag.Int("n", 30000, "messages of a run; slow contenders get fewer")
	only := flag.String("only", "", "only rows whose name contains one of these, apart by commas")
	out := flag.String("csv", "bench.csv", "where each run's figures go")
	var set settings
	flag.IntVar(&set.entities, "entities", 5000, "how many records the messages are about, but for first sights")
	flag.IntVar(&set.rate, "rate", 1000, "messages a second for the latencies")
	flag.IntVar(&set.paced, "paced", 1000, "messages for the latencies")
	flag.IntVar(&set.instances, "instances", 1, "client processes that share the work")
	flag.BoolVar(&set.always, "sync-always", false, "the server syncs each write to the disk")
	flag.StringVar(&set.profile, "profile", "", "directory for CPU profiles of clients and servers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	specs := []spec{
		{"bare", "bare", update, *n},
		{"bare again", "bare", update, *n},
		{"causeway", "causeway", first, *n},
		{"causeway", "causeway", update, *n},
		{"causeway", "causeway", echo, *n},
		{"causeway", "causeway", noop, *n},
		{"causeway", "causeway", hot, *n / 10},
		{"naive", "naive", update, *n / 3},
		{"watermill", "watermill", update, *n / 6},
		{"watermill-tuned", "watermill-tuned", update, *n / 2},
	}
	if *only != "" {
		specs = slices.DeleteFunc(specs, func(s spec) bool {
			return !slices.ContainsFunc(strings.Split(*only, ","), func(o string) bool { return strings.Contains(s.name+" "+string(s.mix), o) })
		})
	}
	f, err := os.Create(*out)
	if err != nil {
		return err
	}
	defer f.Close()
	c := csv.NewWriter(f)
	_ = c.Write([]string{"round", "contender", "mix", "messages", "per_second", "client_us", "server_us", "client_mib", "server_mib", "p50_ms", "p99_ms", "out", "out_bytes", "twice", "disorder"})
	all := map[spec][]result{}
	fmt.Printf("%s, %d cores, %s, nats-server %s, nats.go %s; file store, %s; load %s\n", runtime.Version(), runtime.NumCPU(), cpuName(), server.VERSION, nats.Version, syncName(set.always), loadAverage())
	fmt.Printf("%d rounds; contacts of %d bytes, %d of them; latencies at %d/s; %d client process(es)\n", *rounds, len(sight(0, 0, "fetch", "").Record), set.entities, set.rate, set.instances)
	began := time.Now()
	for round := range *rounds {
		for _, s := range specs {
			r, err := measure(ctx, s, set)
			if err != nil {
				return fmt.Errorf("round %d, %s %s: %w", round+1, s.name, s.mix, err)
			}
			all[s] = append(all[s], r)
			ff := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
			_ = c.Write([]string{strconv.Itoa(round + 1), r.Contender, r.Mix, strconv.Itoa(r.Messages), ff(r.Rate), ff(r.Client), ff(r.Server), ff(r.Memory), ff(r.ServerMemory), ff(r.P50), ff(r.P99),
				strconv.Itoa(r.Out), ff(r.OutBytes), strconv.Itoa(r.Twice), strconv.Itoa(r.Disorder)})
			c.Flush()
			fmt.Fprintf(os.Stderr, "round %d: %s %s: %.0f/s\n", round+1, r.Contender, r.Mix, r.Rate)
		}
	}
	if err := c.Error(); err != nil {
		return err
	}
	table(specs, all)
	fmt.Printf("took %s; load %s now; each run's figures are in %s\n", time.Since(began).Round(time.Second), loadAverage(), *out)
	return nil
}

// table prints medians, with the least and the most of the rate. The ratio to
// bare is that of each round's two runs, so that noise which lasts longer than
// a round takes no part.
func table(specs []spec, all map[spec][]result) {
	t := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tmix\tn\tmsgs/s\tmin–max\t/bare\tmin–max\tclient µs\tserver µs\tp50 ms\tp99 ms\tMiB\tserver MiB\tbytes out\ttwice\tdisorder\t")
	var limit []result
	for _, s := range specs {
		if s.name == "bare" {
			limit = all[s]
		}
	}
	for _, s := range specs {
		rs := all[s]
		rate := pick(rs, func(r result) float64 { return r.Rate })
		ratio := []float64{}
		for i := range rs {
			if i < len(limit) {
				ratio = append(ratio, rs[i].Rate/limit[i].Rate)
			}
		}
		med := func(f func(result) float64) float64 { return median(pick(rs, f)) }
		sum := func(f func(result) int) (n int) {
			for _, r := range rs {
				n += f(r)
			}
			return n
		}
		fmt.Fprintf(t, "%s\t%s\t%d×%d\t%.0f\t%.0f–%.0f\t%.2f\t%.2f–%.2f\t%.1f\t%.1f\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t%d\t%d\t\n", s.name, s.mix, len(rs), s.messages, median(rate), slices.Min(rate), slices.Max(rate),
			median(ratio), least(ratio), most(ratio), med(func(r result) float64 { return r.Client }), med(func(r result) float64 { return r.Server }),
			med(func(r result) float64 { return r.P50 }), med(func(r result) float64 { return r.P99 }), med(func(r result) float64 { return r.Memory }), med(func(r result) float64 { return r.ServerMemory }),
			med(func(r result) float64 { return r.OutBytes }), sum(func(r result) int { return r.Twice }), sum(func(r result) int { return r.Disorder }))
	}
	_ = t.Flush()
}

func pick(rs []result, f func(result) float64) []float64 {
	out := make([]float64, len(rs))
	for i, r := range rs {
		out[i] = f(r)
	}
	return out
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func least(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	return slices.Min(v)
}

func most(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	return slices.Max(v)
}

func syncName(always bool) string {
	if always {
		return "sync_interval always"
	}
	return "default sync"
}

func cpuName() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // "" where there is none
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.Trim(name, "\t :\n")
		}
	}
	return runtime.GOARCH
}

func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	s, _, _ := strings.Cut(string(b), " ")
	return s
}
