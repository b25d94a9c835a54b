package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-sync/causeway/internal/ghlsim"
	"github.com/causeway-sync/causeway/internal/novisim"
)

type simCmd struct {
	GHL  simGHLCmd  `cmd:"" name:"ghl" help:"Run a simulated GoHighLevel: one location, one token."`
	Novi simNoviCmd `cmd:"" name:"novi" help:"Run a simulated Novi AMS site: one key."`
}

type simGHLCmd struct {
	Listen   string `help:"Address to listen on." default:"127.0.0.1:8081"`
	Location string `help:"The location's id." default:"sim-location"`
	Token    string `help:"The token that is accepted." default:"pit-simulated"`
	Webhook  string `help:"Where webhooks are sent; none if empty." placeholder:"URL"`
	Seed     int64  `help:"What ids and faults follow from." default:"1"`
}

// simCustomFields are those of the default mapping.
var simCustomFields = []ghlsim.CustomField{
	{ID: "cf1", Name: "Job Title", Key: "contact.job_title"}, {ID: "cf2", Name: "Membership Status", Key: "contact.membership_status"},
	{ID: "cf3", Name: "Membership Type", Key: "contact.membership_type"}, {ID: "cf4", Name: "Member Since", Key: "contact.member_since"},
	{ID: "cf5", Name: "Membership Expires", Key: "contact.membership_expires"}, {ID: "cf6", Name: "Causeway ID", Key: "contact.causeway_id"},
}

func (s *simGHLCmd) Run(ctx context.Context) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("webhook key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return fmt.Errorf("webhook key: %w", err)
	}
	sim, err := ghlsim.New(ghlsim.Config{Seed: s.Seed,
		Locations: []ghlsim.Location{{ID: s.Location, Name: "Simulated", CustomFields: simCustomFields}},
		Tokens:    []ghlsim.Token{{Value: s.Token, LocationID: s.Location, Scopes: ghlsim.AllScopes()}},
		Webhook:   ghlsim.WebhookConfig{URL: s.Webhook, PrivateKey: private}})
	if err != nil {
		return err
	}
	fmt.Printf("webhooks are signed with this key (ingest.ghl_keys):\n%s", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return runSim(ctx, "GoHighLevel", s.Listen, sim.Serve, sim.Run)
}

type simNoviCmd struct {
	Listen  string `help:"Address to listen on." default:"127.0.0.1:8082"`
	Key     string `help:"The API key that is accepted." default:"simulated"`
	Webhook string `help:"Where webhooks are sent; none if empty." placeholder:"URL"`
	Secret  string `help:"What webhooks are signed with; unsigned if empty."`
	Seed    int64  `help:"What ids and faults follow from." default:"1"`
}

func (s *simNoviCmd) Run(ctx context.Context) error {
	sim, err := novisim.New(novisim.Config{Keys: []string{s.Key}, Seed: s.Seed,
		CustomFields: []novisim.CustomField{{UniqueID: "5f0c1a52-0000-4000-8000-000000000001", Name: "GHL Tags", TypeName: "Text"}},
		Groups:       []novisim.Group{{UniqueID: "7a3b0000-0000-4000-8000-000000000001", Name: "Board"}},
		Webhook:      novisim.WebhookConfig{URL: s.Webhook, Secret: s.Secret}})
	if err != nil {
		return err
	}
	return runSim(ctx, "Novi AMS", s.Listen, sim.Serve, sim.Run)
}

func runSim(ctx context.Context, name, listen string, serve func(context.Context, net.Listener) error, run func(context.Context) error) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("simulated %s: %w", name, err)
	}
	fmt.Printf("simulated %s on http://%s; edit as a person would with POST /_sim/edit, look with GET /_sim/dump\n", name, l.Addr())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx, l) })
	g.Go(func() error { return run(ctx) })
	return g.Wait()
}
