// Package archtest holds the picture of who imports whom, as tests over what
// the go command says. It has no code of its own.
package archtest
