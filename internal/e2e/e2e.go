// Package e2e holds the tests of whole programs. It has no code of its own.
package e2e
