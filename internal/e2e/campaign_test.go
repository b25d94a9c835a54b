//go:build campaign

package e2e_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/dev"
)

var (
	seeds    = flag.String("seeds", "1..5", "the seeds of a campaign: a list of numbers and ranges")
	jobs     = flag.Int("jobs", 2, "how many seeds are played at a time")
	binary   = flag.String("causeway", "", "the program to play them with; it is built if there is none")
	keep     = flag.String("keep", "", "a directory for the reports, and for configuration, streams and logs of what is not good")
	campaign = flag.String("play", "--contacts 500 --changes 2000 --faults --limits 100 --pace 10ms --poll 2s", "further flags of causeway dev")
)

// TestCampaign plays `causeway dev --exit` with one seed after the other. It
// prints a line for each, and a summary.
func TestCampaign(t *testing.T) {
	list, err := parseSeeds(*seeds)
	if err != nil {
		t.Fatal(err)
	}
	if *binary == "" {
		dir, err := programs()
		if err != nil {
			t.Fatal(err)
		}
		*binary = filepath.Join(dir, "causeway")
	}
	if *keep == "" {
		*keep = t.TempDir()
	}
	if err := os.MkdirAll(*keep, 0o700); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	reports := make([]dev.Report, len(list))
	var g errgroup.Group
	g.SetLimit(*jobs)
	for i, seed := range list {
		g.Go(func() error {
			r, err := playSeed(seed)
			reports[i] = r
			line := fmt.Sprintf("seed %d: good", seed)
			if err != nil || !r.Good() {
				line = fmt.Sprintf("seed %d: BAD", seed)
				t.Errorf("seed %d is not good: %v %q", seed, err, r.Problems)
			}
			fmt.Printf("%s: %d people, %d items, %d changes, %d events, %d writes; %d duplicates, %d echo writes, %d lost changes, %d overwritten and %d nulled by a PUT, %d unseen, %d dead letters; %d conflicts, %d merges; %s\n",
				line, r.Contacts, r.Items, r.Changes, r.CanonicalEvents, r.Writes.GHL+r.Writes.Novi, r.Duplicates, r.EchoWrites, r.LostChanges, r.Overwritten, r.Nulled, r.Unseen, r.Dead, r.Conflicts, r.Merges,
				time.Duration(r.DurationMS)*time.Millisecond)
			return nil
		})
	}
	_ = g.Wait() // a seed that isn't good is the test's, not the group's
	bad, sum := 0, dev.Report{}
	for _, r := range reports {
		if !r.Good() {
			bad++
		}
		sum.Contacts += r.Contacts
		sum.Items += r.Items
		sum.Changes += r.Changes
		sum.CanonicalEvents += r.CanonicalEvents
		sum.Conflicts += r.Conflicts
		sum.Merges += r.Merges
		sum.Duplicates += r.Duplicates
		sum.EchoWrites += r.EchoWrites
		sum.LostChanges += r.LostChanges
		sum.Overwritten += r.Overwritten
		sum.Nulled += r.Nulled
		sum.Unseen += r.Unseen
		sum.Dead += r.Dead
	}
	fmt.Printf("%d of %d seeds are good: %d people, %d items, %d changes, %d events; %d duplicates, %d echo writes, %d lost changes, %d overwritten and %d nulled by a PUT, %d unseen, %d dead letters; %d conflicts, %d merges; %s\n",
		len(list)-bad, len(list), sum.Contacts, sum.Items, sum.Changes, sum.CanonicalEvents, sum.Duplicates, sum.EchoWrites, sum.LostChanges, sum.Overwritten, sum.Nulled, sum.Unseen, sum.Dead, sum.Conflicts, sum.Merges,
		time.Since(began).Round(time.Second))
}

// playSeed keeps the report, and the streams if the run is not good.
func playSeed(seed int) (dev.Report, error) {
	var r dev.Report
	name := filepath.Join(*keep, fmt.Sprintf("seed-%d", seed))
	if err := os.RemoveAll(name); err != nil {
		return r, err
	}
	args := append([]string{"dev", "--exit", "--json", "--seed", strconv.Itoa(seed), "--data", name}, strings.Fields(*campaign)...)
	var out, errs bytes.Buffer
	cmd := exec.Command(*binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	runErr := cmd.Run()
	if runErr != nil && errs.Len() > 0 {
		runErr = fmt.Errorf("%w: %s", runErr, bytes.TrimSpace(errs.Bytes()))
	}
	if err := os.WriteFile(name+".json", out.Bytes(), 0o600); err != nil {
		return r, err
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("%w; %s", errors.Join(runErr, err), errs.String())
	}
	if r.Good() {
		return r, errors.Join(runErr, os.RemoveAll(name))
	}
	return r, runErr
}

// parseSeeds reads "1..50" and "1,4,7..9".
func parseSeeds(s string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(s, ",") {
		from, to, ranged := strings.Cut(part, "..")
		a, err := strconv.Atoi(from)
		b := a
		if err == nil && ranged {
			b, err = strconv.Atoi(to)
		}
		if err != nil {
			return nil, fmt.Errorf("seeds %q: %w", s, err)
		}
		for ; a <= b; a++ {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
