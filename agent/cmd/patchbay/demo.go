package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"go.patchbay.dev/agent/lab"
	"go.patchbay.dev/plugins/admin/adminpb"
)

func newDemo(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show a connection on this machine, from nothing: two namespaces, one request, a ping",
		Long: `Demo does the main job on this machine from nothing: it runs an agent of its own in a scratch
folder, makes two network namespaces, offers a network service from one and connects the other
to it, pings through the connection, shows what was decided and why and the counters, closes the
connection and shows that nothing is left. It cleans up after itself, also when interrupted,
and touches nothing else on the machine. It needs root.

NODES in the environment is how many nodes there are, 1 unless it says otherwise. From 2 on each is a
network namespace with an agent, they share an etcd of three members, the workload is on the first,
the endpoint on the last, and the ping goes through the tunnel that the two agents negotiate.

With BRIDGE=1 there is a bridge instead: a workload on each node asks for its network service, and
all are on one Ethernet segment.

DATAPLANE in the environment chooses the dataplane: kernel, which is the default, or vpp, with
a VPP of its own that is found in $VPP_PREFIX, /opt/vpp or PATH.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context()) },
	}
}

// stepTimeout bounds each step of the demo.
const stepTimeout = 30 * time.Second

func (a *app) demo(ctx context.Context) error {
	if err := demoPossible(os.Getenv("DATAPLANE"), os.Getenv("NODES")); err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	var vpp *lab.Installation
	if os.Getenv("DATAPLANE") == "vpp" {
		var err error
		if vpp, err = lab.FindVPP(); err != nil {
			return fmt.Errorf("demo: %w, or leave DATAPLANE out", err)
		}
	}
	d, err := newDemonstration(a)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	switch nodes := demoNodes(os.Getenv("NODES")); {
	case demoOfBridge():
		err = d.bridgeStory(ctx, nodes, vpp != nil)
	case nodes > 1:
		err = d.nodesStory(ctx, nodes, vpp != nil)
	default:
		err = d.story(ctx, vpp)
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	} else if err != nil {
		d.showLog()
	}
	// What has been made goes, whatever else happened.
	if err = errors.Join(err, d.cleanUp()); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	fmt.Fprintln(a.out, "\nAll of it is gone again: the agent, the namespaces and the scratch folder.")
	return nil
}

// demoPossible says what is missing to show anything here.
func demoPossible(dataplane, nodes string) error {
	switch {
	case dataplane != "" && dataplane != "kernel" && dataplane != "vpp":
		return usage("DATAPLANE=%s: there is kernel and vpp; leave it out for kernel", dataplane)
	case demoNodes(nodes) == 0:
		return usage("NODES=%s: use 1 to 9; leave it out for 1", nodes)
	case os.Geteuid() != 0:
		return errors.New("demo: needs root to make network namespaces; run it as root, for instance: sudo make demo")
	}
	for _, c := range []struct{ command, from string }{{"ip", "iproute2"}, {"ping", "iputils-ping"}} {
		if _, err := exec.LookPath(c.command); err != nil {
			return fmt.Errorf("demo: %s is missing; install it with: apt-get install %s", c.command, c.from)
		}
	}
	return nil
}

// demoOfBridge tells whether a bridge is to be shown.
func demoOfBridge() bool { return os.Getenv("BRIDGE") != "" && os.Getenv("BRIDGE") != "0" }

// demoNodes reads how many nodes are to be shown; 0: it cannot be read.
func demoNodes(s string) int {
	if n, err := strconv.Atoi(cmp.Or(s, "1")); err == nil && n >= 1 && n <= 9 {
		return n
	}
	return 0
}

// demonstration is one run of the demo with all that it has made.
type demonstration struct {
	*app
	program  string
	dir      string
	name     string // begins the names of its network namespaces
	client   string // network namespaces of workloads
	server   string
	env      []string
	launcher *lab.Launcher
	vpp      *lab.VPP // nil: the kernel dataplane
	logFile  *os.File
	undo     []func() error // last first
	step     int
}

func newDemonstration(a *app) (*demonstration, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/tmp", "patchbay-demo-") // short enough for sockets
	if err != nil {
		return nil, err
	}
	var random [3]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	name := "patchbay-demo-" + hex.EncodeToString(random[:])
	d := &demonstration{
		app:     &app{in: a.in, out: a.out, err: a.err, agent: "unix://" + filepath.Join(dir, "agent.sock")},
		program: program, dir: dir, name: name, client: name + "-client", server: name + "-server", launcher: lab.NewLauncher(),
	}
	d.undo = append(d.undo, func() error { d.launcher.Close(); return nil })
	d.undo = append(d.undo, func() error { return os.RemoveAll(dir) })
	if d.logFile, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, errors.Join(err, d.cleanUp())
	}
	d.undo = append(d.undo, d.logFile.Close)
	for _, e := range os.Environ() { // the caller's configuration is not this agent's
		if !strings.HasPrefix(e, "PATCHBAY_") {
			d.env = append(d.env, e)
		}
	}
	d.env = append(d.env, "PATCHBAY_AGENT="+d.agent)
	return d, nil
}

func (d *demonstration) title(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.out, "\n%d. "+format+"\n", append([]any{d.step}, args...)...)
}

// story is the demo itself.
func (d *demonstration) story(ctx context.Context, vpp *lab.Installation) error {
	if vpp != nil {
		if err := d.startVPP(ctx, vpp); err != nil {
			return err
		}
	}
	if err := d.startAgent(ctx); err != nil {
		return err
	}
	if err := d.makeNamespaces(ctx); err != nil {
		return err
	}
	d.title("An endpoint offers the network service \"hello\" from the second namespace.")
	server, err := d.start(ctx, "serving ", "serve", "hello", "--netns", d.server, "--cidr", "10.60.0.0/24")
	if err != nil {
		return err
	}
	d.title("A workload asks for \"hello\" from the first namespace.")
	client, err := d.start(ctx, "connected ", "connect", "hello", "--netns", d.client, "--interface", "nsm0", "--id", "demo")
	if err != nil {
		return err
	}
	d.title("Packets flow.")
	if err := d.command(ctx, "ip", "netns", "exec", d.client, "ping", "-c", "3", "-i", "0.2", "-W", "2", "10.60.0.2"); err != nil {
		return err
	}
	d.title("What was decided and why, and what the interfaces counted.")
	if err := d.self(ctx, "describe", "crossconnect", "demo"); err != nil {
		return err
	}
	if d.vpp != nil {
		d.title("The same, as VPP sees it.")
		if err := d.vppctl(ctx, "show", "interface"); err != nil {
			return err
		}
		if err := d.vppctl(ctx, "show", "mode"); err != nil {
			return err
		}
	}
	d.title("The workload leaves; its connection and both interfaces go with it.")
	if err := client.Stop(); err != nil {
		return err
	}
	if err := server.Stop(); err != nil {
		return err
	}
	return d.showNothingLeft(ctx)
}

// demoConfig is the agent's: all that it keeps is in the scratch folder.
const demoConfig = `node: { name: demo }
grpc: { listen: ["unix://DIR/agent.sock"] }
etcd: { listen: "unix://DIR/etcd.sock", data_dir: DIR/etcd }
http: { listen: "off" }
`

func (d *demonstration) startAgent(ctx context.Context) error {
	file := filepath.Join(d.dir, "patchbay.yaml")
	config := demoConfig + "dataplane: kernel\n"
	if d.vpp != nil {
		config = demoConfig + vppAgentConfig
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(config, "DIR", d.dir)), 0o600); err != nil {
		return err
	}
	d.title("An agent for this node; all that it keeps is in %s.", d.dir)
	p, err := d.launch(d.logFile, "run", "--config", file)
	if err != nil {
		return err
	}
	began := time.Now()
	ctx, cancel := alive(ctx, p)
	defer cancel()
	var out *adminpb.VersionResponse
	err = d.admin(func(c adminpb.AdminClient) (err error) {
		out, err = c.Version(ctx, &adminpb.VersionRequest{}, grpc.WaitForReady(true))
		return err
	})
	if !p.Running() {
		return p.Ending()
	}
	if err != nil {
		return d.explained(err, "start the agent")
	}
	fmt.Fprintf(d.out, "   it answers after %d ms: node %s, dataplane %s\n", time.Since(began).Milliseconds(), out.GetNode(), out.GetDataplane())
	return nil
}

func (d *demonstration) makeNamespaces(ctx context.Context) error {
	d.title("Two network namespaces, as two containers have.")
	for _, n := range []string{d.client, d.server} {
		if err := d.makeNamespace(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (d *demonstration) makeNamespace(ctx context.Context, name string) error {
	d.undo = append(d.undo, func() error { return deleteNamespace(name) })
	return d.command(ctx, "ip", "netns", "add", name)
}

// deleteNamespace removes a namespace, also one that was half made.
func deleteNamespace(name string) error {
	if _, err := os.Lstat("/run/netns/" + name); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
		return fmt.Errorf("delete network namespace %s: %w: %s", name, err, out)
	}
	return nil
}

// showNothingLeft shows, and checks, that the interfaces and the record are gone.
func (d *demonstration) showNothingLeft(ctx context.Context) error {
	if err := d.self(ctx, "get", "crossconnects"); err != nil {
		return err
	}
	return d.emptyNamespaces(ctx)
}

// emptyNamespaces shows, and checks, that the workloads have no interfaces any more.
func (d *demonstration) emptyNamespaces(ctx context.Context) error {
	for _, n := range []string{d.client, d.server} {
		if err := d.command(ctx, "ip", "-n", n, "-brief", "link"); err != nil {
			return err
		}
		out, err := exec.CommandContext(ctx, "ip", "-n", n, "-oneline", "link").Output()
		if err != nil {
			return err
		}
		if lines := strings.Count(string(out), "\n"); lines > 1 {
			return fmt.Errorf("network namespace %s still has %d interfaces besides lo", n, lines-1)
		}
	}
	return nil
}

// cleanUp undoes all that was done, in the reverse order.
func (d *demonstration) cleanUp() error {
	var errs []error
	for i := len(d.undo) - 1; i >= 0; i-- {
		errs = append(errs, d.undo[i]())
	}
	return errors.Join(errs...)
}
