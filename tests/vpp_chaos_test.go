package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vpptest"
)

// vppChurner is a client that connects and closes all the time, with memif or by the
// kernel, to an endpoint with memif.
type vppChurner struct {
	client *lab.Client
	ns     *lab.Namespace
	name   string
	live   map[string]*networkservice.Connection
	rand   *rand.Rand
	next   int // number of a connection
}

func (c *vppChurner) run(t *testing.T, ctx context.Context) {
	for ctx.Err() == nil {
		switch ids := slices.Sorted(maps.Keys(c.live)); {
		case len(ids) < 3 || c.rand.IntN(2) == 0 && len(ids) < 6:
			kind := []string{"kernel", "memif"}[c.rand.IntN(2)]
			payload := []string{"ETHERNET", "IP"}[c.rand.IntN(2)]
			c.next++
			c.connect(t, fmt.Sprintf("%s-%s-%s-%d", c.name, kind, strings.ToLower(payload), c.next), payload)
		default:
			c.close(t, ids[c.rand.IntN(len(ids))])
		}
	}
}

// persist repeats what fails while the agent or VPP is away, until it succeeds.
func persist(t *testing.T, what string, do func(ctx context.Context) error) {
	deadline := time.Now().Add(40 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := do(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: %v", what, err)
			return
		}
		<-tick.C
	}
}

func (c *vppChurner) connect(t *testing.T, id, payload string) {
	persist(t, "connect "+id, func(ctx context.Context) (err error) {
		in := lab.MemifRequest(id, "fw")
		if strings.Contains(id, "kernel") {
			in = lab.NewRequest(t, id, "fw", c.ns, interfaceOf(id))
		}
		in.Connection.Payload = payload
		var conn *networkservice.Connection
		if strings.Contains(id, "kernel") {
			conn, err = c.client.Pass(ctx, in, c.ns)
		} else {
			conn, err = c.client.Request(ctx, in)
		}
		if err == nil {
			c.live[id] = conn
		}
		return err
	})
}

// interfaceOf is the name of the kernel's interface of a connection.
func interfaceOf(id string) string { return "n" + id[strings.LastIndexByte(id, '-')+1:] }

func (c *vppChurner) close(t *testing.T, id string) {
	persist(t, "close "+id, func(ctx context.Context) error {
		_, err := c.client.Close(ctx, c.live[id])
		return err
	})
	delete(c.live, id)
}

// foreigner makes what is somebody else's in VPP.
func foreigner(v *vpptest.VPP) {
	for _, c := range []string{
		"create memif socket id 4000 filename " + v.Dir + "/memif.sock",
		"create interface memif id 0 socket-id 4000 master",
		"create interface memif id 1 socket-id 4000 master",
		"create loopback interface",
		"set interface tag loop0 patchbay",
		"set interface l2 xconnect memif4000/0 memif4000/1",
		"set interface l2 xconnect memif4000/1 memif4000/0",
	} {
		v.CLI(c)
	}
}

// foreignWorld is what there should be of it.
const foreignWorld = "loop0 is tagged patchbay\nmemif4000/0 is tagged \nmemif4000/0 leads to memif4000/1\nmemif4000/1 is tagged \nmemif4000/1 leads to memif4000/0"

// vppWorld is all that a real VPP has of interfaces, and what joins them, sorted.
func vppWorld(api *vppapi.Client) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	all, err := api.Refresh(ctx)
	if err != nil {
		return "", err
	}
	name := map[vppapi.Index]string{}
	var lines []string
	for _, i := range all {
		name[i.Index] = i.Name
		if strings.HasPrefix(i.Tag, "patchbay:") {
			name[i.Index] = i.Tag
			lines = append(lines, fmt.Sprintf("%s up %v", i.Tag, i.AdminUp))
		} else if i.Name != "local0" {
			lines = append(lines, fmt.Sprintf("%s is tagged %s", i.Name, i.Tag))
		}
	}
	l2, err := api.L2Connections(ctx)
	if err != nil {
		return "", err
	}
	for from, to := range l2 {
		lines = append(lines, name[from]+" leads to "+name[to])
	}
	paths, neighbors, err := api.L3Connections(ctx)
	if err != nil {
		return "", err
	}
	for _, p := range paths {
		lines = append(lines, fmt.Sprintf("%s leads to %s ip6 %v", name[p.From], name[p.To], p.IPv6))
	}
	for _, n := range neighbors {
		lines = append(lines, fmt.Sprintf("%s has a neighbour ip6 %v", name[n.At], n.Address.Is6()))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// recordedWorld is what VPP should have by the records in etcd, and their ids.
func recordedWorld(t *testing.T, a *lab.Agent) (world string, ids []string) {
	t.Helper()
	lines := strings.Split(foreignWorld, "\n")
	for _, text := range strings.Split(strings.TrimSpace(a.Etcdctl("get", "--prefix", "--print-value-only", "/patchbay/v1/nodes/n1/crossconnects/")), "\n") {
		if text == "" {
			continue
		}
		var x struct {
			ID, Payload      string
			Client, Endpoint struct{ Mechanism struct{ Type string } }
		}
		if err := json.Unmarshal([]byte(text), &x); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, x.ID)
		if x.Endpoint.Mechanism.Type == "KERNEL" {
			continue // without VPP the endpoint took a kernel interface, which is linked directly
		}
		client, endpoint := "patchbay:"+x.ID+":client", "patchbay:"+x.ID+":endpoint"
		lines = append(lines, client+" up true", endpoint+" up true")
		for _, way := range [][2]string{{client, endpoint}, {endpoint, client}} {
			join := way[0] + " leads to " + way[1]
			if x.Payload == "IP" {
				lines = append(lines, join+" ip6 false", join+" ip6 true")
			} else {
				lines = append(lines, join)
			}
		}
		if x.Payload == "IP" && x.Client.Mechanism.Type == "KERNEL" {
			lines = append(lines, client+" has a neighbour ip6 false", client+" has a neighbour ip6 true")
		}
	}
	slices.Sort(lines)
	slices.Sort(ids)
	return strings.Join(lines, "\n"), ids
}

// TestVPPAndAgentKilledUnderChurn kills VPP and the agent at random moments while clients
// come and go. Whenever all is at rest, VPP has exactly what is on record, the records are
// what was acknowledged, and what is somebody else's in VPP is as it was.
func TestVPPAndAgentKilledUnderChurn(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	a, v := lab.StartOnVPP(t)
	foreigner(v)
	lab.NewEndpoint(t, a, "fw-1").Accept("MEMIF").Register(a.Dial(), "fw")
	api := vppapi.New(vppapi.Options{Socket: v.APISocket, Name: "test"})
	api.Start(context.Background())
	t.Cleanup(api.Stop)

	churners := make([]*vppChurner, 3)
	for i := range churners {
		churners[i] = &vppChurner{client: lab.NewClient(t, a.Dial()), ns: lab.NewNamespace(t), name: fmt.Sprintf("w%d", i),
			live: map[string]*networkservice.Connection{}, rand: rand.New(rand.NewPCG(seed, uint64(i+2)))}
	}
	killed := map[string]int{}
	for done, n := 0, kills(t); done < n; {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for _, c := range churners {
			wg.Go(func() { c.run(t, ctx) })
		}
		for range min(10, n-done) {
			<-time.After(time.Duration(random.IntN(150)) * time.Millisecond) // the random moment itself
			if random.IntN(2) == 0 {
				v.Restart()
				foreigner(v)
				killed["VPP"]++
			} else {
				a.Kill()
				a.Start()
				if random.IntN(3) > 0 {
					a.WaitReady()
				}
				killed["the agent"]++
			}
			done++
		}
		a.WaitReady()
		cancel()
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		checkVPPWorld(t, a, api, churners)
	}
	t.Logf("killed: %v", killed)
	for _, c := range churners {
		for id := range c.live {
			c.close(t, id)
		}
	}
	// An agent that is killed between a socket's removal and its directory's leaves that
	// empty until the next look, 10 s later at the earliest.
	checkVPPWorld(t, a, api, churners)
}

// checkVPPWorld compares what was acknowledged with the records, and the records with
// VPP, with its sockets and with the clients' namespaces.
func checkVPPWorld(t *testing.T, a *lab.Agent, api *vppapi.Client, churners []*vppChurner) {
	t.Helper()
	world, ids := recordedWorld(t, a)
	var live []string
	for _, c := range churners {
		live = append(live, slices.Collect(maps.Keys(c.live))...)
	}
	slices.Sort(live)
	if !slices.Equal(ids, live) {
		t.Errorf("records are %v, acknowledged are %v", ids, live)
	}
	lab.Eventually(t, 40*time.Second, "VPP to have what is on record", func() error {
		now, err := vppWorld(api)
		if err == nil && now != world {
			err = fmt.Errorf("VPP has:\n%s\nand on record is:\n%s", now, world)
		}
		return err
	})
	for _, c := range churners {
		var want []string
		for id := range c.live {
			if strings.Contains(id, "kernel") {
				want = append(want, interfaceOf(id))
			}
		}
		slices.Sort(want)
		got := c.ns.Interfaces(t)
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s has the interfaces %v, want %v", c.name, got, want)
		}
	}
	lab.Eventually(t, 10*time.Second, "sockets of what is on record only", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		memifs, sockets, err := api.Memifs(ctx)
		if err != nil {
			return err
		}
		used := map[uint32]bool{0: true}
		for _, m := range memifs {
			used[m.Number] = true
		}
		for number, path := range sockets {
			if !used[number] {
				return fmt.Errorf("socket %d, %s, has no interface", number, path)
			}
		}
		dirs, err := os.ReadDir(a.RunDir())
		if err != nil {
			return err
		}
		for _, d := range dirs {
			if files, _ := os.ReadDir(a.RunDir() + "/" + d.Name()); len(files) > 0 && !strings.HasPrefix(d.Name(), ".") && !slices.Contains(ids, d.Name()) {
				return fmt.Errorf("files of %s: %v", d.Name(), files)
			}
		}
		return nil
	})
}
