package main

import (
	"io"
	"os"

	"github.com/causeway-sync/causeway/internal/configschema"
)

type schemaCmd struct {
	Of string `arg:"" enum:"config,tenant,mapping" help:"Of what: config (the main file), tenant (a file of tenants_dir) or mapping."`
}

func (c *schemaCmd) Run() error { return printSchema(os.Stdout, c.Of) }

func printSchema(out io.Writer, of string) error {
	text, err := configschema.Make(of)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}
