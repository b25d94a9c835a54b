package bus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/causeway-sync/causeway/internal/bus"
	"github.com/causeway-sync/causeway/internal/natsembed"
	"github.com/causeway-sync/causeway/streams"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir}
	a.cert, a.key = a.sign(name, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes a certificate and its key.
func (a *authority) issue(name string, usage x509.ExtKeyUsage) {
	a.t.Helper()
	a.sign(name, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage}})
}

// sign writes what it signs, by itself if it has no certificate yet.
func (a *authority) sign(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.Subject, template.NotAfter = big.NewInt(1), pkix.Name{CommonName: name}, time.Now().Add(time.Hour)
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// TestTLS: a broker that speaks TLS only and knows its clients by their
// certificates.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	ours := newAuthority(t, dir, "ca")
	ours.issue("server", x509.ExtKeyUsageServerAuth)
	ours.issue("client", x509.ExtKeyUsageClientAuth)
	newAuthority(t, dir, "theirs").issue("stranger", x509.ExtKeyUsageClientAuth)
	conf := fmt.Sprintf("tls {cert_file: %q, key_file: %q, ca_file: %q, verify: true}\n", in("server.pem"), in("server-key.pem"), in("ca.pem"))
	if err := os.WriteFile(in("nats.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := natsembed.Start(natsembed.Options{StoreDir: in("nats"), Config: in("nats.conf")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	url := "tls://" + s.URL()[strings.LastIndex(s.URL(), "/")+1:]
	connect := func(url string, l bus.Login) (*bus.Conn, error) {
		c, err := bus.Connect(t.Context(), bus.Options{URL: url, Name: t.Name(), Logger: zerolog.Nop(), Login: l})
		if err == nil {
			t.Cleanup(c.Close)
		}
		return c, err
	}
	c, err := connect(url, bus.Login{CA: in("ca.pem"), Certificate: in("client.pem"), Key: in("client-key.pem")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := streams.Ensure(t.Context(), c.JetStream()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(t.Context(), bus.Message{Subject: "raw.ghl.a.contact.x.notice", Data: []byte("{}")}); err != nil {
		t.Error(err)
	}
	for name, l := range map[string]bus.Login{
		"no certificate":                      {CA: in("ca.pem")},
		"a certificate that others signed":    {CA: in("ca.pem"), Certificate: in("stranger.pem"), Key: in("stranger-key.pem")},
		"a server that nobody we know signed": {Certificate: in("client.pem"), Key: in("client-key.pem")},
		"a server that others signed":         {CA: in("theirs.pem"), Certificate: in("client.pem"), Key: in("client-key.pem")},
		"a server's certificate":              {CA: in("ca.pem"), Certificate: in("server.pem"), Key: in("server-key.pem")},
		"a key without its certificate":       {CA: in("ca.pem"), Key: in("client-key.pem")},
		"another's key":                       {CA: in("ca.pem"), Certificate: in("client.pem"), Key: in("server-key.pem")},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := connect(url, l); err == nil {
				t.Error("it connects")
			} else if strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}
