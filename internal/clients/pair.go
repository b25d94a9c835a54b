package clients

import (
	"context"
	"errors"
	"sync"

	"github.com/causeway-sync/causeway/internal/config"
)

// pair is a secret and the one that it is being replaced by. Both are read anew
// for every call, so that a file can be replaced while everything runs.
type pair struct {
	file *config.File
	refs [2]config.Secret // the second may be unset

	mu  sync.Mutex
	use int // which one is taken
}

// get returns the one that is in use, or the other one if that can't be read.
func (p *pair) get(context.Context) (string, error) {
	p.mu.Lock()
	use := p.use
	p.mu.Unlock()
	value, err := p.file.Resolve(p.refs[use])
	if value != "" {
		return value, nil
	}
	if other, _ := p.file.Resolve(p.refs[1-use]); other != "" {
		return other, nil
	}
	return "", err
}

// refused returns what to try after value was refused: what has taken its place
// in the meantime, or else the other one, which is in use from then on.
func (p *pair) refused(ctx context.Context, value string) (string, error) {
	if now, err := p.get(ctx); err != nil || now != value {
		return now, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range []int{1 - p.use, p.use} {
		if other, _ := p.file.Resolve(p.refs[i]); other != "" && other != value {
			p.use = i
			return other, nil
		}
	}
	return "", errors.New("it was refused, and there is no other one")
}
