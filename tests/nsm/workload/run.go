package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
)

// Run is the workload if this process is to be one, and reports whether it was. It ends
// with its standard input, as abruptly as a crash: what is to be closed is closed before.
func Run() (bool, error) {
	text, ok := os.LookupEnv(Env)
	if !ok {
		return false, nil
	}
	var config Config
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return true, fmt.Errorf("%s: %w", Env, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := &output{to: json.NewEncoder(os.Stdout)}
	role, err := newRole(ctx, config, out)
	if err != nil {
		return true, err
	}
	out.tell(Event{What: Ready})
	return true, serve(ctx, role, config, os.Stdin, out)
}

// role is what a workload is.
type role interface {
	do(ctx context.Context, c Command) (*networkservice.Connection, error)
}

func newRole(ctx context.Context, config Config, out *output) (role, error) {
	switch config.Role {
	case Client:
		return newClient(ctx, config, out)
	case Endpoint:
		return newEndpoint(ctx, config, out)
	case Registry:
		return newRegistry(ctx, config, out)
	}
	return nil, fmt.Errorf("role %q is none of %s, %s and %s", config.Role, Client, Endpoint, Registry)
}

// serve does what comes on in, one command after the other.
func serve(ctx context.Context, r role, config Config, in io.Reader, out *output) error {
	for commands := json.NewDecoder(in); ; {
		var c Command
		if err := commands.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		within, cancel := context.WithTimeout(ctx, config.Timeout)
		conn, err := r.do(within, c)
		cancel()
		out.tell(Event{What: Done}.with(conn, err))
	}
}

// output is standard output; whoever has something to tell may.
type output struct {
	mu sync.Mutex
	to *json.Encoder
}

func (o *output) tell(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.to.Encode(e); err != nil {
		fmt.Fprintln(os.Stderr, "workload: nobody listens any more:", err)
	}
}

func (e Event) with(conn *networkservice.Connection, err error) Event {
	if conn != nil {
		e.Connections = []Conn{{conn.Clone()}}
	}
	if err != nil {
		e.Error = err.Error()
	}
	return e
}
