package config

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Watch looks every so often whether the files that f was loaded from have
// changed, until ctx is done. A change that loads is handed over whole, one
// that doesn't as an error, each once; what f says stays as it is. It looks at
// the times of the files, and at the contents when those have moved; a file
// that is still being written is left alone until it has rested for one look.
//
// Secrets are not part of it: what a reference refers to is read when it is
// resolved.
func (f *File) Watch(ctx context.Context, every time.Duration, changed func(*File, error)) {
	dir, sum := f.Beside(f.TenantsDir), f.sum
	seen, before := "", ""
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		now := times(f.path, dir)
		if now != seen && now == before {
			seen = now
			next, err := Load(f.path)
			switch {
			case err != nil:
				dir = f.Beside(tenantsDir(f.path, f.TenantsDir))
				changed(nil, err)
			case next.sum != sum:
				dir, sum = next.Beside(next.TenantsDir), next.sum
				changed(next, nil)
			}
		}
		before = now
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tenantsDir is what a file that doesn't load says of it, or last.
func tenantsDir(path, last string) string {
	var f struct {
		TenantsDir string `yaml:"tenants_dir"`
	}
	text, err := os.ReadFile(path)
	if err != nil || yaml.Unmarshal(text, &f) != nil {
		return last
	}
	return f.TenantsDir
}

// times says of each file when it was changed and how long it is.
func times(path, dir string) string {
	files, _ := tenantFiles(dir) // that it can't be read is seen when it is loaded
	var b strings.Builder
	for _, file := range append([]string{path}, files...) {
		if info, err := os.Stat(file); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", file, info.ModTime().UnixNano(), info.Size())
		}
	}
	return b.String()
}
