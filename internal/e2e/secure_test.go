package e2e_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/config"
	"github.com/causeway-sync/causeway/internal/dev"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/streams"
)

// TestLeastPrivilege runs everything on a broker with the configuration in
// deploy, on which each stage may do what it has to and no more.
func TestLeastPrivilege(t *testing.T) {
	w := world(t, dev.Options{PollGHL: time.Second, PollNovi: time.Second, Items: true})
	seeds := map[streams.Role]string{}
	for _, role := range streams.Roles() {
		seeds[role] = nkey(t, role)
	}
	broker, err := natsembed.Start(natsembed.Options{StoreDir: filepath.Join(w.Dir, "nats"), Listen: w.NATSAddr, Config: filepath.Join("..", "..", "deploy", "nats-secure.conf")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Shutdown)
	w.Login = bus.Login{NKey: seeds[streams.RoleOperator]}
	if _, err := streams.Apply(t.Context(), connect(t, w).JetStream(), false); err != nil {
		t.Fatal(err)
	}
	r, err := w.Run(t.Context(), dev.Play{Contacts: 12, Changes: 40, Pace: 20 * time.Millisecond, Start: func() error {
		h, err := w.StartOn(t.Context(), zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel), broker, func(stage string, f *config.File) {
			f.NATS.NKey = seeds[streams.Role(stage)]
		})
		if err == nil {
			t.Cleanup(func() {
				if err := h.Stop(); err != nil {
					t.Error(err)
				}
			})
		}
		return err
	}})
	good(t, r, err)

	forbidden := []struct {
		role    streams.Role
		subject string
	}{
		{streams.RoleSink, "canonical.contact.alpine-guild.x.updated"},
		{streams.RoleSink, "raw.ghl.alpine-guild.contact.x.notice"},
		{streams.RoleIngest, "canonical.contact.alpine-guild.x.updated"},
		{streams.RoleIngest, "effects.ghl.alpine-guild.contact.x"},
		{streams.RoleTransform, "raw.ghl.alpine-guild.contact.x.fetch"},
		{streams.RoleTransform, "effects.ghl.alpine-guild.contact.x"},
		{streams.RoleTransform, "$KV.TOKENS.alpine-guild.ghl"},
		{streams.RoleSubscriber, "canonical.contact.alpine-guild.x.updated"},
		{streams.RoleSubscriber, "raw.ghl.alpine-guild.contact.x.notice"},
		{streams.RoleSubscriber, "$JS.API.STREAM.DELETE.CANONICAL"},
		{streams.RoleSubscriber, "$JS.API.DIRECT.GET.KV_TOKENS.$KV.TOKENS.alpine-guild.ghl"},
		{streams.RoleSink, "$JS.API.STREAM.PURGE.RAW"},
		{streams.RoleConsole, "canonical.contact.alpine-guild.x.updated"},
		{streams.RoleConsole, "$KV.TOKENS.alpine-guild.ghl"},
	}
	for _, f := range forbidden {
		t.Run(string(f.role)+" "+f.subject, func(t *testing.T) {
			if err := publishAs(t, broker.URL(), seeds[f.role], f.subject); !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("got %v, want a permissions violation", err)
			}
		})
	}
	for role, subject := range map[streams.Role]string{streams.RoleTransform: "canonical.tag.alpine-guild.x.added", streams.RoleSink: "effects.ghl.alpine-guild.contact.x"} {
		if err := publishAs(t, broker.URL(), seeds[role], subject); err != nil {
			t.Errorf("%s may not publish on %s: %v", role, subject, err)
		}
	}
}

// publishAs publishes on a subject and returns what the server says of it.
func publishAs(t *testing.T, url, seed, subject string) error {
	t.Helper()
	opt, err := nats.NkeyOptionFromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan error, 1)
	nc, err := nats.Connect(url, opt, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case said <- err:
		default:
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.Publish(subject, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(20 * time.Second); err != nil { // what it says comes before the answer to this
		t.Fatal(err)
	}
	select {
	case err := <-said:
		return err
	case <-time.After(200 * time.Millisecond): // the handler runs beside us
		return nil
	}
}

// nkey makes a user: the public key goes to the broker by the environment, the
// path of the seed is returned.
func nkey(t *testing.T, role streams.Role) string {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CAUSEWAY_NKEY_"+strings.ToUpper(string(role)), public)
	path := filepath.Join(t.TempDir(), string(role)+".nk")
	if err := os.WriteFile(path, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
