package dev

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	_ "embed" // the automations
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/mapping"
	"github.com/causeway-sync/causeway/internal/novisim"
	"github.com/causeway-sync/causeway/schemas/canonical"
)

// Tenant and Location name the one association of a World.
const (
	Tenant   = "alpine-guild"
	Location = "LocAlpineGuild000001"
)

// calendar is the location's.
const calendar = "CalVisits00000000001"

// Workflow and Campaign are the location's, into which rules may put a contact.
const (
	Workflow = "WflWelcome0000000001"
	Campaign = "CmpWinBack0000000001"
)

// Automations are the recipes of docs/automations.md that need no other service,
// for Options.Rules.
//
//go:embed rules.yaml
var Automations string

// indexLag is how far GHL's search is behind.
const indexLag = 2 * time.Second

// customFields of the location, as the default mapping expects them.
var customFields = []ghlsim.CustomField{
	{ID: "cfJobTitle0000000001", Name: "Job Title", Key: "contact.job_title"},
	{ID: "cfMemberStatus000002", Name: "Membership Status", Key: "contact.membership_status"},
	{ID: "cfMemberType00000003", Name: "Membership Type", Key: "contact.membership_type"},
	{ID: "cfMemberSince0000004", Name: "Member Since", Key: "contact.member_since"},
	{ID: "cfExpires00000000005", Name: "Membership Expires", Key: "contact.membership_expires"},
	{ID: "cfCausewayID00000006", Name: "Causeway ID", Key: "contact.causeway_id"},
	{ID: "cfShirtSize000000007", Name: "Shirt Size", Key: "contact.shirt_size"},
}

// Options are what a World is made of.
type Options struct {
	// Dir holds everything: configuration, secrets, streams, logs. It has to
	// be empty or not there.
	Dir  string
	Seed int64
	// Limits multiplies both systems' call limits, at the simulators and in
	// our configuration alike; 0 means 1.
	Limits int
	// PollGHL and PollNovi are the intervals of the polls; 0 means never.
	PollGHL, PollNovi time.Duration
	// NoWebhooks leaves the simulators without a webhook URL.
	NoWebhooks bool
	// Items makes people write tasks and notes too.
	Items bool
	// Twins makes people be entered twice, be merged, and hand addresses on.
	Twins bool
	// OAuth has the location reached through a marketplace app, which Install
	// installs, instead of with a private integration token.
	OAuth bool
	// CreateNovi is novi.create of the configuration; "" means always.
	CreateNovi string
	// Duplicates is contact.duplicates of the configuration; "" means keep, or
	// delete if there are twins.
	Duplicates mapping.Duplicates
	// Faults are what goes wrong at both systems, from the beginning.
	Faults Faults
	// HoldCount is deletes.hold.count of the configuration; 0 means the usual
	// number times Limits, since people in dev are that much faster.
	HoldCount int
	// Rules are the association's automations, as a YAML list that is indented by
	// six; "" means none.
	Rules string
}

// World is the two simulated systems with their HTTP servers, and a
// configuration file that says where everything is.
type World struct {
	GHL        *ghlsim.Server
	Novi       *novisim.Server
	Lens       *mapping.Lens
	Dir        string
	ConfigPath string
	GHLURL     string
	NoviURL    string
	HookURL    string // the front door
	NATSAddr   string
	Seed       int64
	// ConfigOf gives the configuration file of each of Programs' stages; nil
	// means ConfigPath for all.
	ConfigOf func(stage string) string
	Login    bus.Login // for Connect; the zero value where the broker asks for none

	items  bool // people write tasks and notes too
	twins  bool // people are entered twice
	rules  bool // there are automations
	faults Faults
	http   map[string]string // health addresses by stage
	settle time.Duration     // how long nothing may happen before it counts as quiet
	// rounds is how often every walk and sweep has to have gone through
	// everything after the last change, before it counts as quiet in the end.
	rounds int
	polled []canonical.System // the systems that are walked through again and again
	stop   context.CancelFunc
	g      *errgroup.Group
}

// NewWorld starts the simulators and writes the configuration. Close stops
// them.
func NewWorld(ctx context.Context, o Options) (*World, error) {
	if o.Limits == 0 {
		o.Limits = 1
	}
	if o.HoldCount == 0 {
		o.HoldCount = (*mapping.Policy)(nil).Hold().Count * o.Limits
	}
	if o.Twins {
		o.Duplicates = cmp.Or(o.Duplicates, mapping.DeleteDuplicates)
	}
	if o.CreateNovi == "" {
		o.CreateNovi = "always"
	}
	if entries, err := os.ReadDir(o.Dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty; the simulators start anew each time, so a run needs a directory of its own", o.Dir)
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, "secrets"), 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	w := &World{Dir: o.Dir, ConfigPath: filepath.Join(o.Dir, "causeway.yaml"), Seed: o.Seed, items: o.Items, twins: o.Twins, faults: o.Faults, http: map[string]string{}, settle: 1500 * time.Millisecond}
	if o.NoWebhooks || o.Faults != NoFaults {
		// A change is seen when the polls have come round and the search index
		// has caught up.
		w.settle += indexLag + 2*max(o.PollGHL, o.PollNovi)
	}
	switch {
	case o.Faults == AllFaults:
		w.rounds = 3 // an item that could not be asked for is asked for after the next sweep
	case o.NoWebhooks || o.Items || o.Faults != NoFaults:
		// What has no webhook is seen by sweeps, what is gone by two of them.
		w.rounds = 2
	}
	if o.PollGHL > 0 {
		w.polled = append(w.polled, canonical.GHL)
	}
	if o.PollNovi > 0 {
		w.polled = append(w.polled, canonical.Novi)
	}
	random := rand.New(rand.NewPCG(uint64(o.Seed), 0x776f726c64))
	word := func() string { return fmt.Sprintf("%016x%016x", random.Uint64(), random.Uint64()) }
	token, key, pathToken, secret := "pit-"+word(), word(), word(), word()
	clientSecret, tokenKey, nextTokenKey := word(), word()+word(), word()+word()

	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(random.Uint32())
	}
	private := ed25519.NewKeyFromSeed(seed)
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, fmt.Errorf("webhook key: %w", err)
	}

	front, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if w.NATSAddr, err = freeAddress(); err != nil {
		return nil, err
	}
	for _, stage := range stageNames {
		if w.http[stage], err = freeAddress(); err != nil {
			return nil, err
		}
	}
	w.HookURL = "http://" + front

	var app *ghlsim.App
	tokens := []ghlsim.Token{{Value: token, LocationID: Location, Scopes: ghlsim.AllScopes()}}
	if o.OAuth {
		app = &ghlsim.App{ClientID: clientID, ClientSecret: clientSecret, RedirectURL: w.HookURL + "/oauth/ghl/callback", Lifetime: tokenLife}
		tokens = nil
	}
	if w.GHL, err = ghlsim.New(ghlsim.Config{
		Locations: []ghlsim.Location{{ID: Location, Name: "Alpine Guild", CustomFields: customFields,
			Users: []ghlsim.User{{ID: "UsrReception00000001", Name: "Reception", Email: "reception@example.org"}}, Calendars: []string{calendar}, Workflows: []string{Workflow}, Campaigns: []string{Campaign}}},
		Tokens: tokens, App: app,
		Webhook: ghlsim.WebhookConfig{PrivateKey: private, RetryBase: time.Second},
		Burst:   100 * o.Limits, Daily: 200_000 * o.Limits, Seed: o.Seed,
	}); err != nil {
		return nil, err
	}
	if w.Novi, err = novisim.New(novisim.Config{
		Keys: []string{key}, Seed: o.Seed, Timezone: time.UTC,
		CustomFields: []novisim.CustomField{
			{UniqueID: "5f0c1a52-0000-4000-8000-000000000001", Name: "GHL Tags", TypeName: "Text"},
			{UniqueID: "5f0c1a52-0000-4000-8000-000000000002", Name: "Shirt size", TypeName: "Text"},
		},
		Groups: []novisim.Group{
			{UniqueID: "7a3b0000-0000-4000-8000-000000000001", Name: "Board"},
			{UniqueID: "7a3b0000-0000-4000-8000-000000000002", Name: "Lapsed", Condition: &novisim.Condition{Field: "MemberStatus", Op: "eq", Value: "expired"}},
		},
		Webhook:   novisim.WebhookConfig{Secret: secret, MinDelay: 50 * time.Millisecond, MaxDelay: 200 * time.Millisecond},
		PerSecond: 20 * o.Limits, PerMinute: 600 * o.Limits, PerDay: 100_000 * o.Limits,
	}); err != nil {
		return nil, err
	}
	w.setFaults(o.Faults)
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop = stop
	w.g, runCtx = errgroup.WithContext(runCtx)
	serve := func(run func(context.Context, net.Listener) error) (string, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", fmt.Errorf("simulator: %w", err)
		}
		w.g.Go(func() error { return run(runCtx, l) })
		return "http://" + l.Addr().String(), nil
	}
	if w.GHLURL, err = serve(w.GHL.Serve); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	if w.NoviURL, err = serve(w.Novi.Serve); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	w.g.Go(func() error { return w.GHL.Run(runCtx) })
	w.g.Go(func() error { return w.Novi.Run(runCtx) })
	if !o.NoWebhooks {
		w.GHL.SetWebhookURL(w.HookURL + "/hooks/ghl")
		w.Novi.SetWebhookURL(w.HookURL + "/hooks/novi/" + pathToken)
	}

	tokenText, oauthText := "      token: file:secrets/ghl-token\n", ""
	if o.OAuth {
		tokenText, oauthText = "", fmt.Sprintf(appText, clientID, w.HookURL, w.GHLURL, w.GHLURL)
	}
	files := map[string]string{
		"secrets/ghl-client-secret": clientSecret, "secrets/token-key": tokenKey, "secrets/token-key-next": nextTokenKey,
		"secrets/ghl-token": token, "secrets/novi-key": key, "secrets/novi-webhook-token": pathToken, "secrets/novi-webhook-secret": secret,
		"ghl-webhook-key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		"causeway.yaml": fmt.Sprintf(configText, w.NATSAddr, front, oauthText, Tenant, w.GHLURL, Location, tokenText, o.PollGHL, 2*o.PollGHL, 100*o.Limits, 200_000*o.Limits,
			w.NoviURL, o.CreateNovi, o.PollNovi, 2*o.PollNovi, 20*o.Limits, 600*o.Limits, 100_000*o.Limits, o.HoldCount, cmp.Or(o.Duplicates, mapping.KeepDuplicates)),
	}
	if o.Rules != "" {
		w.rules = true
		files["causeway.yaml"] += "    rules:\n" + o.Rules
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(o.Dir, name), []byte(text), 0o600); err != nil {
			return nil, errors.Join(fmt.Errorf("data directory: %w", err), w.Close())
		}
	}
	file, err := config.Load(w.ConfigPath)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	w.Lens = file.Tenants[0].Lens()
	return w, nil
}

const configText = `# Written by causeway dev.
nats:
  url: nats://%s
ingest:
  listen: %s
  ghl_keys: ghl-webhook-key.pem
  per_second: 5000
%stenants:
  - name: %s
    ghl:
      base_url: %s
      location: %s
%s      poll: %s
      sweep_all: %s
      limits:
        windows: [{calls: %d, per: 10s}]
        daily: %d
    novi:
      base_url: %s
      key: file:secrets/novi-key
      webhook_token: file:secrets/novi-webhook-token
      webhook_secret: file:secrets/novi-webhook-secret
      create: %s
      poll: %s
      sweep_all: %s
      limits:
        windows: [{calls: %d, per: 1s}, {calls: %d, per: 1m}]
        daily: %d
    mapping:
      deletes: {hold: {count: %d}}
      contact:
        duplicates: %s
        fields:
          custom.shirt_size: {ghl: "custom:contact.shirt_size", novi: "custom:Shirt size"}
        tags:
          derive:
            - {tag: "status: {value}", field: membership.status}
`

// Close stops the simulators.
func (w *World) Close() error {
	w.stop()
	return w.g.Wait()
}

// firstPort and ports are those that freeAddress gives: below what Linux (from 32768) and
// others (from 49152) give to whoever doesn't ask for one in particular, a
// connection that goes out, say, between our look and the stage's.
const firstPort, ports = 20000, 12000

var portsGiven atomic.Uint32

// freeAddress returns a local address that nobody listens on now. This process
// gives each once, and where it begins follows from its id, so that two
// processes which start together don't meet.
func freeAddress() (string, error) {
	for range ports {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+(uint32(os.Getpid())*16+portsGiven.Add(1))%ports)
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close() // it is only a number that is wanted
		}
	}
	return "", fmt.Errorf("find a free port: there is none from %d to %d", firstPort, firstPort+ports-1)
}
