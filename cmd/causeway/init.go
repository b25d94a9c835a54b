package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/causeway-sync/causeway/internal/configschema"
)

type initCmd struct {
	Dir string `arg:"" optional:"" default:"." help:"Where to; made if it is not there."`
}

//go:embed init/causeway.yaml init/tenant.yaml
var initFiles embed.FS

func (c *initCmd) Run(context.Context) error { return initialize(os.Stdout, c.Dir) }

// content is what a file begins with: one of the embedded ones, or a schema.
func content(from string) ([]byte, error) {
	switch {
	case from == "":
		return []byte("/secrets/\n*.creds\n"), nil
	case slices.Contains(configschema.Names, from):
		return configschema.Make(from)
	}
	return initFiles.ReadFile(from)
}

// initialize writes a first configuration, over nothing that is there.
func initialize(out io.Writer, dir string) error {
	files := []struct{ to, from string }{{"causeway.yaml", "init/causeway.yaml"}, {"tenants/example.yaml", "init/tenant.yaml"},
		{"schema/config.json", "config"}, {"schema/tenant.json", "tenant"}, {".gitignore", ""}}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.to)); err == nil {
			return fmt.Errorf("%s is there already; nothing was written", filepath.Join(dir, f.to))
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, sub := range []string{"tenants", "secrets", "schema"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	for _, f := range files {
		text, err := content(f.from)
		if err != nil {
			return err
		}
		to, err := os.OpenFile(filepath.Join(dir, f.to), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if _, err := to.Write(text); err != nil {
			return errors.Join(err, to.Close())
		}
		if err := to.Close(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "written to %s: causeway.yaml, tenants/example.yaml, schema/, .gitignore\nnext: rename tenants/example.yaml to your association's slug, fill in what is empty,\nput the secrets where it says, and run: ingest --check --config %s\n", dir, filepath.Join(dir, "causeway.yaml"))
	return err
}
