package manager

import (
	"context"
	"sync"
)

// farewell is a close under way: to the endpoint or agent at a URL, of the connection that
// has that id as this agent's own path segment.
type farewell struct{ url, id string }

// farewells are the closes under way. A request to the same endpoint for the same connection
// waits for them: one that is late would end what the request has led to.
type farewells struct {
	mu    sync.Mutex
	under map[farewell]chan struct{} // closed when the last that has begun has ended
}

// begin notes a close, until end.
func (f *farewells) begin(k farewell) (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, ended := f.under[k], make(chan struct{})
	f.under[k] = ended
	return func() {
		if before != nil {
			<-before
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.under[k] == ended {
			delete(f.under, k)
		}
		close(ended)
	}
}

// wait returns when no close is under way any more, or ctx ends.
func (f *farewells) wait(ctx context.Context, k farewell) {
	f.mu.Lock()
	ended := f.under[k]
	f.mu.Unlock()
	if ended == nil {
		return
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
