package nsm

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/tests/nsm/workload"
)

// patience is how long a process is given to do or to tell something.
const patience = 20 * time.Second

// process is a workload in a namespace of its own.
type process struct {
	t        *testing.T
	config   workload.Config
	net      *netns
	cmd      *exec.Cmd
	commands *json.Encoder
	log      log

	mu      sync.Mutex
	events  []workload.Event
	changed chan struct{} // closed and renewed with each event
	ended   bool          // there will be no more
	reader  sync.WaitGroup

	taken map[string]int // by kind: events up to the one that was awaited last
}

// startProcess starts a workload in a namespace and waits until it is ready.
func startProcess(t *testing.T, in *netns, config workload.Config) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	line := in.in(self)
	p := &process{t: t, config: config, net: in, cmd: exec.Command(line[0], line[1:]...),
		changed: make(chan struct{}), taken: map[string]int{}}
	p.cmd.Env = append(os.Environ(), workload.Env+"="+string(text))
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	commands, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.commands = json.NewEncoder(commands)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.reader.Go(func() { p.read(json.NewDecoder(out)) })
	t.Cleanup(func() {
		p.kill()
		p.log.show(t, config.Role+" "+config.Name)
	})
	p.await(workload.Ready, nil)
	return p
}

func (p *process) read(events *json.Decoder) {
	for {
		var e workload.Event
		err := events.Decode(&e)
		p.mu.Lock()
		if err != nil {
			fmt.Fprintln(&p.log, "no more events:", err)
			p.ended = true
		} else {
			p.events = append(p.events, e)
		}
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await gives the next event of a kind after the one of this kind that was awaited last;
// match, if given, selects among them and is asked of each once.
func (p *process) await(what string, match func(workload.Event) bool) workload.Event {
	p.t.Helper()
	timeout := time.After(patience)
	for next := p.taken[what]; ; {
		p.mu.Lock()
		events, changed, ended := p.events, p.changed, p.ended
		p.mu.Unlock()
		for ; next < len(events); next++ {
			if e := events[next]; e.What == what && (match == nil || match(e)) {
				p.taken[what] = next + 1
				return e
			}
		}
		if ended {
			p.t.Fatalf("%s %s ended, waiting for %q after %v", p.config.Role, p.config.Name, what, events)
		}
		select {
		case <-changed:
		case <-timeout:
			p.t.Fatalf("%s %s: waited %v for %q, saw %v", p.config.Role, p.config.Name, patience, what, events)
		}
	}
}

// do has a command done, which must succeed.
func (p *process) do(c workload.Command) *networkservice.Connection {
	p.t.Helper()
	if err := p.commands.Encode(c); err != nil {
		p.t.Fatalf("tell %s to %s: %v", p.config.Name, c.Do, err)
	}
	e := p.await(workload.Done, nil)
	if e.Error != "" {
		p.t.Fatalf("%s %s: %s", p.config.Name, c.Do, e.Error)
	}
	return e.Connection()
}

// kill kills the process as a crash would; nothing is closed or unregistered.
func (p *process) kill() {
	p.cmd.Process.Kill() // it may have ended
	p.reader.Wait()
	p.cmd.Wait() // killed, so it gives an error
}

// lifetime of a workload's tokens where nothing else is said, and timeout of its requests.
// NSM's endpoints close a connection a timeout before its token expires.
const (
	lifetime = 10 * time.Second
	timeout  = 3 * time.Second
)

// registry starts a client of the agent's registries in the agent's own namespace: only
// who is root there may remove network services.
func (a *agent) registry() *process {
	a.t.Helper()
	return startProcess(a.t, a.net, workload.Config{Role: workload.Registry, Name: "registry", Agent: a.socket, Lifetime: lifetime, Timeout: timeout})
}

// client starts a client of the agent in a namespace; change may change its configuration.
func (a *agent) client(in *netns, change func(*workload.Config)) *process {
	a.t.Helper()
	config := workload.Config{Role: workload.Client, Name: "nsc", Agent: a.socket, Lifetime: lifetime, Timeout: timeout}
	if change != nil {
		change(&config)
	}
	return startProcess(a.t, in, config)
}

// endpoint starts an endpoint that serves "fw" in a namespace of its own, with addresses
// from 10.<net>.0.0/24 and fd00:<net>::/120. It is not registered yet.
func (a *agent) endpoint(name string, net int, change func(*workload.Config)) *process {
	a.t.Helper()
	config := workload.Config{Role: workload.Endpoint, Name: name, Agent: a.socket, Lifetime: lifetime, Timeout: timeout,
		Socket: filepath.Join(a.dir, name+".sock"), Services: []string{"fw"},
		Prefixes: []string{fmt.Sprintf("10.%d.0.0/24", net), fmt.Sprintf("fd00:%d::/120", net)}}
	if change != nil {
		change(&config)
	}
	return startProcess(a.t, newNetns(a.t), config)
}

// register registers an endpoint with its socket passed as a descriptor.
func (p *process) register() *process {
	p.t.Helper()
	p.do(workload.Command{Do: workload.Register, Passed: true})
	return p
}

// connect has a client connect to "fw".
func (p *process) connect(id, name string) *networkservice.Connection {
	p.t.Helper()
	return p.do(workload.Command{Do: workload.Request, ID: id, Service: "fw", Interface: name})
}
