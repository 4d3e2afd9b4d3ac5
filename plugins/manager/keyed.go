package manager

import (
	"context"
	"sync"
)

// keyedMutex locks one key at a time, so that the requests for one connection follow
// each other and all others go on.
type keyedMutex struct {
	mu   sync.Mutex
	held map[string]*holder
}

type holder struct {
	slot  chan struct{} // of size one: taken while locked
	users int
}

// lock waits for the key until ctx ends.
func (k *keyedMutex) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	h := k.held[key]
	if h == nil {
		h = &holder{slot: make(chan struct{}, 1)}
		k.held[key] = h
	}
	h.users++
	k.mu.Unlock()
	select {
	case h.slot <- struct{}{}:
		return func() { <-h.slot; k.release(key, h) }, nil
	case <-ctx.Done():
		k.release(key, h)
		return nil, ctx.Err()
	}
}

func (k *keyedMutex) release(key string, h *holder) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h.users--; h.users == 0 {
		delete(k.held, key)
	}
}
