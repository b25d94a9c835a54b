package console_test

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/goccy/go-json"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/console"
	"github.com/causeway-sync/causeway/internal/hold"
	"github.com/causeway-sync/causeway/schemas/canonical"
	"github.com/causeway-sync/causeway/streams"
)

var (
	screenshots = flag.String("screenshots", "", "keep the browser tests' screenshots in this directory")
	documented  = flag.String("documented", "", "write the scenes that docs/console.md shows into this directory")
	many        = flag.Int("many", 10_000, "how many contacts TestMany has; a hundredth as many tenants")
	withAxe     = flag.Bool("axe", false, "check every page with axe-core, which npm fetches, in light and dark; it takes minutes")
)

// page is a browser's tab that looks at a site.
type page struct {
	t   *testing.T
	ctx context.Context
	s   site
	dir string
}

// look opens a browser, or skips the test where there is none.
func look(t *testing.T, s site) page {
	t.Helper()
	binary := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "headless-shell"} {
		if path, err := exec.LookPath(name); err == nil {
			binary = path
			break
		}
	}
	if binary == "" {
		t.Skip("no Chromium is found: apt-get install chromium, and this is tested too")
	}
	p := page{t: t, s: s, dir: *screenshots}
	if p.dir == "" {
		p.dir = t.TempDir()
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(binary), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(2*time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	p.ctx, cancel = context.WithTimeout(ctx, 10*time.Minute)
	t.Cleanup(cancel)
	return p
}

func (p page) do(actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// scheme sets the screen: its width, and light or dark.
func (p page) screen(width int64, scheme string) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(width, 900), emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
}

func (p page) open(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.s.url+path), chromedp.WaitReady("#main"))
}

// reads waits until the page says text.
func (p page) reads(text string) {
	p.t.Helper()
	bustest.Until(p.t, func() bool {
		said := false
		err := chromedp.Run(p.ctx, chromedp.Evaluate(fmt.Sprintf("document.body.innerText.includes(%q)", text), &said))
		if p.ctx.Err() != nil {
			p.t.Fatalf("the page never said %q: %v", text, err)
		}
		return err == nil && said // between two pages there is none to ask
	})
}

func (p page) shoot(name string) {
	p.t.Helper()
	var shot []byte
	p.do(chromedp.CaptureScreenshot(&shot))
	if err := os.WriteFile(filepath.Join(p.dir, name+".png"), shot, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// scene keeps what docs/console.md shows: with few colours, so that it is small.
func (p page) scene(name string) {
	p.t.Helper()
	if *documented == "" {
		return
	}
	var shot []byte
	p.do(chromedp.CaptureScreenshot(&shot), emulation.SetFocusEmulationEnabled(true)) // keys go nowhere else after it
	full, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		p.t.Fatal(err)
	}
	seen := map[color.Color]int{}
	b := full.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			seen[full.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(seen), func(a, b color.Color) int { return cmp.Compare(seen[b], seen[a]) })
	small := image.NewPaletted(b, colours[:min(len(colours), 64)])
	draw.Draw(small, b, full, b.Min, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, small); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*documented, name+".png"), out.Bytes(), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// axe returns the source of axe-core; "" where it was not asked for.
func axe(t *testing.T) string {
	t.Helper()
	if !*withAxe {
		return ""
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", dir, "axe-core@4")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("axe-core can't be fetched: %v %s", err, out)
	}
	source, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// accessible fails for serious violations on the page.
func (p page) accessible(source, what string) {
	p.t.Helper()
	if source == "" {
		return
	}
	var found string
	p.do(chromedp.Evaluate(source, nil), chromedp.Evaluate(`axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations.filter(v => ["serious", "critical"].includes(v.impact)).map(v => v.id + ": " + v.nodes.map(n => n.target + " " + (n.any[0]?.message || "")).slice(0, 3).join("; "))))`,
		&found, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	var list []string
	if err := json.Unmarshal([]byte(found), &list); err != nil {
		p.t.Fatal(err)
	}
	for _, v := range list {
		p.t.Errorf("%s: %s", what, v)
	}
}

// TestInBrowser goes through every page as people do, by clicks, in light and
// dark and on a phone.
func TestInBrowser(t *testing.T) {
	s, path := configured(t, configuration)
	id := s.ada()
	s.records()
	letter := s.letter(id)
	kv, err := s.conn.Bucket(t.Context(), streams.HOLDS)
	if err != nil {
		t.Fatal(err)
	}
	for key, v := range map[string]any{"guild": map[string]any{"held": true, "since": at, "deletes": 21, "entities": 100},
		streams.HeldKey(guild, canonical.Novi, canonical.KindContact, id, "novi-ada-1"): hold.Delete{Tenant: guild, System: canonical.Novi, Kind: canonical.KindContact, ID: id, External: "novi-ada-1", At: at}} {
		value, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	cursors, err := s.conn.Bucket(t.Context(), streams.CURSORS)
	if err != nil {
		t.Fatal(err)
	}
	for _, system := range []canonical.System{canonical.GHL, canonical.Novi} {
		if _, err := cursors.Put(t.Context(), streams.WalkKey(system, guild, canonical.KindContact), []byte(`{"backfilled":true,"shown":100,"total":100}`)); err != nil {
			t.Fatal(err)
		}
	}
	s.shows("/", "dead letter", "held")
	p := look(t, s)
	source := axe(t)
	contact := contactPath(id)
	schemes := []string{"light", "dark"}
	if !*withAxe && *screenshots == "" {
		schemes = schemes[:1]
	}
	for _, scheme := range schemes {
		p.screen(1280, scheme)
		for name, path := range map[string]string{"overview": "/", "tenant": "/t/guild", "contacts": "/t/guild/contacts", "contact": contact, "field": contact + "?field=phone#timeline", "dead": "/dead", "letter": "/dead/" + letter,
			"holds": "/holds", "hold": "/holds/guild", "conflicts": "/conflicts", "reads": "/reads", "audit": "/audit", "mapping": "/t/guild/mapping", "mapping-task": "/t/guild/mapping?kind=task", "rules": "/t/guild/rules", "rule": "/t/guild/rules/edit?recipe=welcome", "problem": "/t/nobody"} {
			p.open(path)
			p.shoot(name + "-" + scheme)
			p.accessible(source, name+", "+scheme)
		}
	}
	p.screen(390, "light")
	for name, path := range map[string]string{"overview": "/", "contact": contact, "dead": "/dead", "mapping": "/t/guild/mapping", "mapping-task": "/t/guild/mapping?kind=task", "rules": "/t/guild/rules", "rule": "/t/guild/rules/edit?recipe=welcome"} {
		p.open(path)
		p.shoot(name + "-phone")
		var wide bool
		if p.do(chromedp.Evaluate("document.documentElement.scrollWidth > innerWidth", &wide)); wide {
			t.Errorf("%s is wider than a phone", name)
		}
		p.accessible(source, name+", phone")
	}

	// Why has this contact this phone number? Three clicks.
	p.screen(1280, "light")
	p.open("/")
	p.do(chromedp.Click(`a[href="/t/guild/contacts"]`), chromedp.WaitVisible(".people"), chromedp.Click(`a[href="`+contact+`"]`), chromedp.WaitVisible(".fields"))
	p.scene("contact")
	p.do(chromedp.Click(`tr[id="f-phone"] td:last-child a`))
	p.reads("What happened to Phone")
	p.reads("somebody in GHL")
	p.scene("phone")

	// What is changed elsewhere shows without a reload, and what has the focus
	// keeps it.
	p.open(contact)
	p.do(chromedp.Focus(`tr[id="f-phone"] a`), chromedp.Evaluate("window.mark = 1", nil))
	e := canonical.NewEvent(canonical.KindContact, id)
	e.Version, e.Contact.FirstName, e.Contact.Phone = 3, "Adelheid", "+12025550143"
	e.Sync.Stamps = map[string]canonical.Stamp{"phone": {At: at.UnixMicro(), Seq: 2, Origin: canonical.GHL}}
	s.event(canonical.OpUpdated, e)
	p.reads("Adelheid")
	var mark, focus string
	p.do(chromedp.Evaluate("String(window.mark)", &mark), chromedp.Evaluate(`document.activeElement.closest("tr")?.id || document.activeElement.tagName`, &focus))
	if mark != "1" || focus != "f-phone" {
		t.Errorf("after the change: reloaded %t, focus on %q", mark != "1", focus)
	}
	// The keyboard gets to the search.
	p.open("/t/guild")
	p.do(chromedp.KeyEvent("/"))
	bustest.Until(t, func() bool { // a page that is shown anew gives it back
		return chromedp.Run(p.ctx, chromedp.Evaluate(`document.activeElement?.name || ""`, &focus)) == nil && focus == "q"
	})
	// The protocol types the slash all the same.
	p.do(chromedp.Evaluate(`document.activeElement.value = ""`, nil), chromedp.KeyEvent("adel\r"), chromedp.WaitVisible("input[name=gone]"))
	p.reads("Adelheid")

	// A dead letter is understood and driven again; a hold is let go.
	p.open("/dead")
	p.do(chromedp.Click(`a[href="/dead/` + letter + `"]`))
	p.reads("Mobile is not valid")
	p.scene("letter")
	p.do(chromedp.Click(`form[action="/dead/redrive"] button`))
	p.reads("Tried again")
	p.shoot("redriven")
	p.scene("redriven")
	p.do(chromedp.Click(`form[action="/dead/drop"] button`))
	p.reads("Dropped: nothing is to be done")
	p.open("/holds/guild")
	p.do(chromedp.Click(`form:not(:has([name=forget])) button.danger`))
	p.reads("1 delete released")
	p.open("/reads")
	p.do(chromedp.Click(`form[action="/t/guild/reconcile"] button`))
	p.reads("is asked for")
	p.do(chromedp.Click(`button.danger`))
	p.reads("asked to stop")

	// A mapping is changed, tried and saved.
	p.open("/t/guild/mapping")
	p.do(chromedp.SetValue(`select[aria-label="Email: who wins"]`, "novi"), chromedp.Click(`p.sticky button:not(.main)`))
	p.reads("Changed: email")
	p.do(chromedp.ScrollIntoView(`#laws`))
	p.scene("mapping")
	p.shoot("mapping-tried")
	p.accessible(source, "a mapping that was tried")
	p.do(chromedp.Click(`p.sticky button.main`))
	p.reads("Saved in causeway.yaml: email")
	p.do(chromedp.Evaluate("scrollTo(0, 0), 1", nil))
	p.scene("mapping-saved")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "email: {ghl: email, novi: Email, convert: email, authority: novi}") {
		t.Errorf("the file says\n%s", text)
	}

	// An automation is tried on what was seen, and saved.
	p.open("/t/guild/rules")
	p.do(chromedp.Click(`a[href="/t/guild/rules/edit?recipe=welcome"]`), chromedp.WaitVisible("textarea"),
		chromedp.SetValue("textarea", "# Whoever is new hears from us.\nname: welcome\nwhen: \"after.first_name != ''\"\ndo:\n  - note: {body: \"Say hello to {after.first_name}\"}\n"), chromedp.Click(`p.sticky button:not(.main)`))
	p.reads("It would have fired")
	p.reads("Say hello to Ada")
	p.scene("rule")
	p.accessible(source, "a rule that was tried")
	p.do(chromedp.Click(`p.sticky button.main`))
	p.reads("Saved in causeway.yaml: welcome")
	p.shoot("rules-saved")
	p.accessible(source, "the list of automations")
	p.screen(390, "dark")
	p.open("/t/guild/rules")
	p.shoot("rules-saved-phone")
	p.accessible(source, "the list of automations, dark, phone")
	p.screen(1280, "light")
	p.open("/audit")
	p.reads("save-mapping")
	p.reads("save-rule")
}

func contactPath(id canonical.CanonicalID) string { return "/t/guild/contacts/" + string(id) }

// TestMany has a tenant of very many contacts beside very many tenants, prints
// how long pages take, and bounds what they ask the broker for: by what they
// show, however many there are.
func TestMany(t *testing.T) {
	t.Parallel()
	s := site{t: t, conn: bustest.Start(t)}
	put := func(tenant canonical.Tenant, n int) canonical.CanonicalID {
		t.Helper()
		e := canonical.NewEvent(canonical.KindContact, canonical.NewID(tenant, canonical.KindContact, canonical.GHL, canonical.ExternalID(fmt.Sprint(n))))
		e.Version, e.Contact.FirstName, e.Contact.LastName, e.Contact.Email = 1, "Ada", fmt.Sprintf("Keller%06d", n), fmt.Sprintf("ada%d@example.org", n)
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		err = s.conn.PublishAsync(t.Context(), bus.Message{Subject: streams.Canonical(canonical.KindContact, tenant, e.ID(), canonical.OpCreated), Data: data}, func(_ bus.Ack, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return e.ID()
	}
	var last canonical.CanonicalID
	for n := range *many {
		last = put(guild, n)
	}
	for n := range *many/100 - 1 {
		put(canonical.Tenant(fmt.Sprintf("club-%04d", n)), n)
	}
	var messages func() uint64 // that the console has sent and got
	s.serve(func(o *console.Options) {
		o.Every = time.Hour // the first look is the only one
		messages = func() uint64 {
			stats := o.Bus.JetStream().Conn().Stats()
			return stats.InMsgs + stats.OutMsgs
		}
	})
	spaced := func(n int) string { return fmt.Sprintf("%d\u202f%03d", n/1000, n%1000) }
	s.shows("/t/guild/contacts", "of "+spaced(*many))
	s.shows("/", strings.TrimPrefix("of "+spaced(*many/100), "of 0\u202f"))
	email := fmt.Sprintf("ada%d@ex", *many-1)
	for path, most := range map[string]uint64{"/": 0, "/?page=2": 0, "/t/guild": 0, "/t/guild/contacts": 0, "/t/guild/contacts?page=200": 0, "/t/guild/contacts?q=keller0099": 0, "/t/guild/contacts?q=" + email: 0,
		"/reads": 0, "/dead": 10, "/holds": 10, contactPath(last): 40} {
		// What it has yet to be told of the tenants comes meanwhile, and then ends.
		bustest.Until(t, func() bool {
			before, began := messages(), time.Now()
			s.get(path, 200)
			took, n := time.Since(began), messages()-before
			if n > most {
				return false
			}
			t.Logf("%-64s %8s, %d messages", path, took.Round(100*time.Microsecond), n)
			return true
		})
	}
	if page := s.get("/t/guild/contacts?q="+email, 200); !strings.Contains(page, fmt.Sprintf("Keller%06d", *many-1)) {
		t.Error("somebody among very many is not found by e-mail address")
	}
}
