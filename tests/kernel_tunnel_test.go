package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/tests/report"
)

// A kernelNode is one of two nodes of the kernel dataplane, each a namespace with an agent,
// and the workload on it.
type kernelNode struct {
	*lab.Agent
	name     string
	node     *lab.Namespace
	workload *lab.Namespace
}

// twoKernelNodes starts two agents on nodes that reach each other, at addresses of this family.
func twoKernelNodes(t *testing.T, ipv6 bool) (nodes [2]kernelNode, addresses [2]string) {
	t.Helper()
	for i := range nodes {
		nodes[i] = kernelNode{name: fmt.Sprint("n", i+1), node: lab.NewNamespace(t), workload: lab.NewNamespace(t)}
		addresses[i] = fmt.Sprint("192.0.2.", i+1)
		if ipv6 {
			addresses[i] = fmt.Sprint("2001:db8::", i+1)
		}
	}
	nodes[0].node.Run(t, "ip", "link", "add", "u0", "type", "veth", "peer", "name", "u0", "netns", nodes[1].node.Name)
	for i := range nodes {
		n := &nodes[i]
		n.node.Run(t, "ip", "address", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "u0")
		n.node.Run(t, "ip", "address", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", "u0", "nodad")
		n.node.Run(t, "ip", "link", "set", "u0", "up")
		n.Agent = lab.StartAgent(t, lab.In(n.node), lab.With("node.name", n.name), lab.With("node.address", fmt.Sprintf("%q", addresses[i])))
	}
	return nodes, addresses
}

// tunnelRecords are those of one connection at both nodes: at each, the other end is the tunnel.
func tunnelRecords(nodes [2]kernelNode, addresses [2]string, k tunnelKind) (records [2]string) {
	tunnel := fmt.Sprintf(`{"type": %q, "parameters": {"src_ip": %q, "dst_ip": %q%s}}`, k.mechanism, addresses[0], addresses[1], k.parameters)
	for i := range records {
		ends := [2]string{tunnel, tunnel}
		ends[i] = fmt.Sprintf(`{"type": "KERNEL", "parameters": {"netns": %q, "name": "nsm0"}}`, nodes[i].workload.Path)
		records[i] = fmt.Sprintf(`{"id": "c1", "payload": %q, "mtu": 1400,
		  "client":   {"mechanism": %s, "addresses": ["10.60.0.1/24", "fd60::1/64"]},
		  "endpoint": {"mechanism": %s, "addresses": ["10.60.0.2/24", "fd60::2/64"]}}`, k.payload, ends[0], ends[1])
	}
	return records
}

func (n kernelNode) put(record string) {
	n.Etcdctl("put", "/patchbay/v1/nodes/"+n.name+"/crossconnects/c1", record)
}

func (n kernelNode) await(t *testing.T, state, says string) {
	t.Helper()
	n.Eventually(10*time.Second, "c1 to be "+state, func() error {
		var got struct{ State, Reason string }
		out := n.Etcdctl("get", "--print-value-only", "/patchbay/v1/status/"+n.name+"/crossconnects/c1")
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.State != state || !strings.Contains(got.Reason, says) {
			return fmt.Errorf("it is %q", out)
		}
		return nil
	})
}

// made are the interfaces of the workload but those that the kernel makes in each namespace, as
// gre0 is.
func (n kernelNode) made(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(n.workload.Interfaces(t), func(name string) bool {
		return !strings.HasPrefix(name, "nsm") && !strings.HasPrefix(name, "pb")
	})
}

// A tunnelKind is what an orchestrator writes of one.
type tunnelKind struct {
	mechanism, parameters, payload string
	ipv6                           bool
}

func tunnelKinds() (kinds []tunnelKind) {
	for _, ipv6 := range []bool{false, true} {
		for _, payload := range []string{"ETHERNET", "IP"} {
			kinds = append(kinds,
				tunnelKind{"VXLAN", `, "vni": "77"`, payload, ipv6}, tunnelKind{"GENEVE", `, "vni": "77"`, payload, ipv6},
				tunnelKind{"GRE", "", payload, ipv6}, tunnelKind{"GRE", `, "key": "77"`, payload, ipv6})
		}
		kinds = append(kinds, tunnelKind{"IPIP", "", "IP", ipv6})
	}
	return kinds
}

// needKernel skips kinds that this kernel does not have, as the node says itself.
func (k tunnelKind) needKernel(t *testing.T, n kernelNode) {
	t.Helper()
	var node struct {
		Offers []struct {
			Type, Missing string
			Payloads      []string
		}
	}
	out := n.Etcdctl("get", "--print-value-only", "/patchbay/v1/agents/"+n.name)
	if err := json.Unmarshal([]byte(out), &node); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	for _, o := range node.Offers {
		if o.Type == k.mechanism && o.Missing == "" && slices.Contains(o.Payloads, k.payload) {
			return
		}
		if o.Type == k.mechanism && os.Getenv("PATCHBAY_TEST_DEVICES") == "" {
			report.Skip(t, k.mechanism+" in the kernel", "this one "+o.Missing+"; make test-vm has it")
		}
	}
	t.Fatalf("the node does not offer %s: %s", k.mechanism, out)
}

// Two records, one at each node, are one connection of two workloads, with nothing between
// them but the tunnel.
func TestTwoKernelNodes(t *testing.T) {
	for _, k := range tunnelKinds() {
		t.Run(fmt.Sprintf("%s%s, %s, IPv6 %v", k.mechanism, strings.NewReplacer(`"`, "", ",", "").Replace(k.parameters), k.payload, k.ipv6), func(t *testing.T) {
			nodes, addresses := twoKernelNodes(t, k.ipv6)
			a, b := nodes[0], nodes[1]
			k.needKernel(t, a)
			records := tunnelRecords(nodes, addresses, k)
			carries := func() {
				t.Helper()
				for _, p := range []struct {
					from *lab.Namespace
					to   string
					size int
				}{{a.workload, "10.60.0.2", 1372}, {b.workload, "10.60.0.1", 1372}, {a.workload, "fd60::2", 1352}, {b.workload, "fd60::1", 1352}} {
					p.from.Run(t, "ping", "-c", "1", "-w", "10", "-M", "do", "-s", fmt.Sprint(p.size), p.to)
				}
			}
			for i, n := range nodes {
				n.put(records[i])
				n.await(t, "UP", "")
			}
			carries()
			if out := a.Patchbay("describe", "crossconnect", "c1"); !strings.Contains(out, "nsm0") {
				t.Errorf("it is described as\n%s", out)
			}

			was := ifindex(t, a.workload, "nsm0")
			a.Kill()
			carries()
			a.Start()
			a.WaitReady()
			a.await(t, "UP", "")
			if calls := mutating(a.Agent); calls != 0 || ifindex(t, a.workload, "nsm0") != was {
				t.Errorf("adopted with %d changing calls, interface %s after %s", calls, ifindex(t, a.workload, "nsm0"), was)
			}

			a.workload.Delete(t)
			a.await(t, "PENDING", a.workload.Path)
			a.workload.Make(t)
			a.await(t, "UP", "")
			carries()

			for _, n := range nodes {
				n.Etcdctl("del", "/patchbay/v1/nodes/"+n.name+"/crossconnects/c1")
				n.Eventually(10*time.Second, "the tunnel to go", func() error { return none(n.made(t)) })
			}
		})
	}
}

// A number that another has is said to be taken, and by whom; when it is free, the
// connection comes by itself.
func TestKernelNodeWhoseVNIIsTaken(t *testing.T) {
	nodes, addresses := twoKernelNodes(t, false)
	a := nodes[0]
	a.node.Run(t, "ip", "link", "add", "foreign", "type", "vxlan", "id", "77", "remote", "203.0.113.1", "dstport", "4789")
	a.put(tunnelRecords(nodes, addresses, tunnelKind{"VXLAN", `, "vni": "77"`, "ETHERNET", false})[0])
	a.await(t, "FAILED", `VNI 77 at UDP port 4789 is that of interface "foreign"`)
	if left := a.made(t); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	a.node.Run(t, "ip", "link", "delete", "foreign")
	a.await(t, "UP", "")
}
