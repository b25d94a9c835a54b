package ingest

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// certificate is the front door's, read anew when one of its files changes.
type certificate struct {
	cert, key string // paths
	logger    zerolog.Logger

	mu   sync.Mutex
	now  *tls.Certificate
	seen [2]time.Time // when the files were changed last
}

// newCertificate returns the certificate in two PEM files. The first also
// holds those that lead to its root, if there are any.
func newCertificate(cert, key string, logger zerolog.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, logger: logger}
	_, err := c.get(nil)
	return c, err
}

// config is for a listener.
func (c *certificate) config() *tls.Config {
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}

// get returns the certificate as the files hold it, or as they held it before
// if they can't be used: between its two files a renewal is half done.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := [2]time.Time{}
	var err error
	for i, path := range []string{c.cert, c.key} {
		var info os.FileInfo
		if info, err = os.Stat(path); err != nil {
			break
		}
		seen[i] = info.ModTime()
	}
	if c.now != nil && (err != nil || seen == c.seen) {
		return c.now, nil
	}
	var next tls.Certificate
	if err == nil {
		next, err = tls.LoadX509KeyPair(c.cert, c.key)
	}
	if err != nil && c.now == nil {
		return nil, fmt.Errorf("ingest.tls: %w", err)
	}
	c.seen = seen
	if err != nil {
		c.logger.Warn().Err(err).Msg("the changed certificate can't be used; the one before is")
		return c.now, nil
	}
	if c.now != nil {
		c.logger.Info().Msg("the front door's certificate has changed")
	}
	c.now = &next
	return c.now, nil
}
