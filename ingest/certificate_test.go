package ingest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/ingest"
	"github.com/causeway-sync/causeway/internal/bustest"
	"github.com/causeway-sync/causeway/internal/clock"
	"github.com/causeway-sync/causeway/internal/config"
)

// issue writes a certificate with that number, and its key, to two files of
// dir.
func issue(t *testing.T, dir string, number int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(number), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Duration(number) * time.Second) // a file system may tell whole seconds only
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCertificate: the front door speaks TLS, and takes a renewed certificate
// without a restart; half of one, it doesn't.
func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "causeway.yaml")
	text := "ingest: {listen: \"127.0.0.1:0\", tls: {certificate: cert.pem, key: key.pem}}\ntenants: [{name: a, ghl: {location: l, token: \"env:CERTIFICATE_TEST_TOKEN\"}}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CERTIFICATE_TEST_TOKEN", "t")
	file, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c := bustest.Start(t)
	start := func() (ingest.Config, error) {
		return ingest.FromFile(file, c, "test", clock.System{}, zerolog.Nop(), nil)
	}
	if _, err := start(); err == nil {
		t.Fatal("it begins without a certificate")
	}
	issue(t, dir, 1)
	cfg, err := start()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Tenants = nil // nothing but the door
	bustest.Go(t, func(ctx context.Context) error { return ingest.Run(ctx, cfg) })
	shown := func() int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", cfg.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := shown(); got != 1 {
		t.Errorf("it shows certificate %d, want 1", got)
	}
	issue(t, dir, 2)
	if got := shown(); got != 2 {
		t.Errorf("it shows certificate %d, want the renewed one, 2", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), fmt.Append(nil, "half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != 2 {
		t.Errorf("it shows certificate %d, want the one before, 2", got)
	}
	issue(t, dir, 3)
	if got := shown(); got != 3 {
		t.Errorf("it shows certificate %d, want 3", got)
	}
}
