package manager

import (
	"context"
	"fmt"
	"runtime"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/fdpass"
)

// passed is a namespace that a client has passed as a descriptor, for one of its mechanisms.
type passed struct {
	mechanism *models.Mechanism
	url       string
}

// readNamespace settles where a mechanism of the client's is. What came as a descriptor is opened while
// the endpoint is asked, see openPassed; what is named is refused before that.
func (m *Manager) readNamespace(ctx context.Context, r *request, mechanism *models.Mechanism, url string) (err error) {
	if _, _, err := fdpass.ParseURL(url); err == nil && r.peer.conn != nil {
		r.passed = append(r.passed, passed{mechanism, url})
		mechanism.Parameters[paramNetns] = fmt.Sprintf("/proc/%d/ns/net", r.peer.PID) // as far as is known yet
		return nil
	}
	mechanism.Parameters[paramNetns], err = m.namespace(ctx, r.peer, url)
	return err
}

// openPassed begins to open the namespaces that the client has passed: that takes a fifth of the time in which an
// endpoint answers. It calls wrong when one is none. What it returns waits for the end of it.
func (m *Manager) openPassed(ctx context.Context, r *request, wrong func()) (wait func() error) {
	list := r.passed
	if r.passed = nil; len(list) == 0 { // or it was done while another endpoint was asked
		return func() error { return nil }
	}
	refs := make([]string, len(list))
	done := make(chan error, 1)
	go func() {
		// The question goes first: gRPC's writer lets others run once before it writes.
		for range 3 {
			runtime.Gosched()
		}
		for i, p := range list {
			var err error
			if refs[i], err = m.namespace(ctx, r.peer, p.url); err != nil {
				wrong()
				done <- status.Errorf(codes.InvalidArgument, "mechanism %s: %v", p.mechanism.Type, err)
				return
			}
		}
		done <- nil
	}()
	return func() error {
		if err := <-done; err != nil {
			return err
		}
		for i, p := range list {
			p.mechanism.Parameters[paramNetns] = refs[i]
		}
		return nil
	}
}
