package config

import _ "embed" // for Source

// Source is config.go, from whose comments the schema of a configuration takes
// its descriptions.
//
//go:embed config.go
var Source string
