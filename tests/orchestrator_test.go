package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
)

// record is a cross-connect of two kernel ends as an orchestrator writes it.
func record(id string, a, b *lab.Namespace, extra string) string {
	return fmt.Sprintf(`{"id": %q, "networkService": "firewall", "payload": "ETHERNET"%s,
	  "client":   {"mechanism": {"type": "KERNEL", "parameters": {"netns": %q, "name": "nsm0"}}, "addresses": ["10.60.0.1/24", "fd60::1/64"],
	               "routes": [{"prefix": "10.61.0.0/16", "nextHop": "10.60.0.2"}]},
	  "endpoint": {"mechanism": {"type": "KERNEL", "parameters": {"netns": %q, "name": "nsm1"}}, "addresses": ["10.60.0.2/24", "fd60::2/64"]}}`,
		id, extra, a.Path, b.Path)
}

func put(a *lab.Agent, id, value string) {
	a.Etcdctl("put", "/patchbay/v1/nodes/n1/crossconnects/"+id, value)
}

// awaitStatus waits for a state beside the record and gives the whole status.
func awaitStatus(t *testing.T, a *lab.Agent, id, state string) map[string]any {
	t.Helper()
	var got map[string]any
	lab.Eventually(t, 10*time.Second, "status "+state+" of "+id, func() error {
		out := a.Etcdctl("get", "--print-value-only", "/patchbay/v1/status/n1/crossconnects/"+id)
		got = nil
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			return fmt.Errorf("no status: %q", out)
		}
		if got["state"] != state {
			return fmt.Errorf("it is %s", out)
		}
		return nil
	})
	return got
}

func TestRecordInEtcdMakesTheSameLink(t *testing.T) {
	a := lab.StartAgent(t)
	left, right := lab.NewNamespace(t), lab.NewNamespace(t)
	put(a, "c1", record("c1", left, right, ""))
	status := awaitStatus(t, a, "c1", "UP")
	if c, _ := status["client"].(map[string]any); c["interface"] != "nsm0" || c["linkUp"] != true || c["mechanism"] != "KERNEL" {
		t.Errorf("status of the client's end: %v", c)
	}
	left.Ping(t, "10.60.0.2")
	right.Ping(t, "fd60::1")
	if out := left.Run(t, "ip", "route"); !strings.Contains(out, "10.61.0.0/16 via 10.60.0.2") {
		t.Errorf("routes: %s", out)
	}

	// A change changes only what differs.
	before, calls := ifindex(t, left, "nsm0"), mutating(a)
	put(a, "c1", strings.Replace(record("c1", left, right, ""), "10.61.0.0/16", "10.62.0.0/16", 1))
	lab.Eventually(t, 5*time.Second, "the route to change", func() error {
		out := left.Run(t, "ip", "route")
		if strings.Contains(out, "10.61.") || !strings.Contains(out, "10.62.0.0/16") {
			return fmt.Errorf("routes: %s", out)
		}
		return nil
	})
	if ifindex(t, left, "nsm0") != before || mutating(a) != calls+1 {
		t.Errorf("a changed route made %d operations", mutating(a)-calls)
	}

	a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/c1")
	lab.Eventually(t, 5*time.Second, "the link to go", func() error { return none(append(left.Interfaces(t), right.Interfaces(t)...)) })
	lab.Eventually(t, 5*time.Second, "the status to go", func() error {
		return none(strings.Fields(a.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/status/")))
	})
}

func TestRecordThatIsWrongIsNamedAndTheRestGoesOn(t *testing.T) {
	a := lab.StartAgent(t)
	left, right := lab.NewNamespace(t), lab.NewNamespace(t)
	put(a, "good", record("good", left, right, ""))
	awaitStatus(t, a, "good", "UP")
	for id, c := range map[string]struct{ value, says string }{
		"unknown":  {`{"id": "unknown", "colour": "red"}`, "colour"},
		"mistyped": {`{"id": "mistyped", "mtu": "many"}`, "mtu"},
		"number":   {strings.Replace(record("number", left, right, ""), `"nsm0"`, `0`, 1), "client.mechanism.parameters.name"},
		"no-list":  {`{"id": "no-list", "client": {"addresses": "10.60.0.1/24"}}`, "client.addresses"},
		"not-json": {`{`, "JSON"},
		"long":     {strings.Replace(record("long", left, right, ""), "firewall", strings.Repeat("x", 254), 1), "networkService"},
		"other":    {`{"id": "another"}`, "id"},
		"range":    {record("range", left, right, `, "mtu": 5`), "mtu"},
		"no-mech":  {`{"id": "no-mech", "client": {}, "endpoint": {}}`, "client.mechanism.type"},
		"vpp":      {strings.ReplaceAll(record("vpp", left, right, ""), "KERNEL", "MEMIF"), "client.mechanism.type"},
		"name":     {strings.Replace(record("name", left, right, ""), `"nsm0"`, `"a/b"`, 1), "client.mechanism.parameters.name"},
		"param":    {strings.Replace(record("param", left, right, ""), `"name": "nsm0"`, `"nmae": "nsm0"`, 1), "client.mechanism.parameters.nmae"},
		"address":  {strings.Replace(record("address", left, right, ""), "10.60.0.1/24", "10.60.0.1", 1), "client.addresses[0]"},
		"symlink":  {strings.Replace(record("symlink", left, right, ""), left.Path, "/proc/self/root", 1), `"/proc/self/root": is a symbolic link`},
	} {
		put(a, id, c.value)
		status := awaitStatus(t, a, id, "FAILED")
		if reason := fmt.Sprint(status["reason"]); !strings.Contains(reason, c.says) {
			t.Errorf("%s: the reason does not name %s: %s", id, c.says, reason)
		}
	}
	// What was right before stays when it becomes wrong, and comes back when mended.
	put(a, "good", `{"id": "good", "mtu": 5}`)
	awaitStatus(t, a, "good", "FAILED")
	left.Ping(t, "10.60.0.2")
	put(a, "good", record("good", left, right, ""))
	awaitStatus(t, a, "good", "UP")
}

func TestNamespaceThatComesGoesAndComesBack(t *testing.T) {
	a := lab.StartAgent(t)
	left, right := lab.NewNamespace(t), lab.NewNamespace(t)
	other := lab.NewNamespace(t)
	put(a, "bystander", strings.NewReplacer(`"nsm`, `"by`, "10.60.", "10.70.", "fd60:", "fd70:", "10.61.", "10.71.").Replace(record("bystander", right, other, "")))
	awaitStatus(t, a, "bystander", "UP")
	bystander := ifindex(t, right, "by0")

	left.Delete(t)
	put(a, "c1", record("c1", left, right, ""))
	status := awaitStatus(t, a, "c1", "PENDING")
	if reason := fmt.Sprint(status["reason"]); !strings.Contains(reason, left.Path) {
		t.Errorf("the reason does not name the namespace: %s", reason)
	}
	for range 3 {
		left.Make(t)
		awaitStatus(t, a, "c1", "UP")
		left.Ping(t, "10.60.0.2")
		left.Delete(t)
		awaitStatus(t, a, "c1", "PENDING")
	}
	if ifindex(t, right, "by0") != bystander {
		t.Error("another connection was touched")
	}
}

func TestInterfaceThatSomebodyDeletesComesBack(t *testing.T) {
	a := lab.StartAgent(t)
	left, right := lab.NewNamespace(t), lab.NewNamespace(t)
	put(a, "c1", record("c1", left, right, ""))
	awaitStatus(t, a, "c1", "UP")
	left.Run(t, "ip", "link", "del", "nsm0")
	lab.Eventually(t, 10*time.Second, "the link to come back", func() error {
		_, err := left.Try("ping", "-c", "1", "-W", "1", "10.60.0.2")
		return err
	})
	left.Run(t, "ip", "link", "set", "nsm0", "down")
	lab.Eventually(t, 10*time.Second, "the link to be up again", func() error {
		_, err := left.Try("ping", "-c", "1", "-W", "1", "10.60.0.2")
		return err
	})
}

func TestRecordDeletedWhileItIsApplied(t *testing.T) {
	a := lab.StartAgent(t)
	left, right := lab.NewNamespace(t), lab.NewNamespace(t)
	for i := range 20 {
		id := fmt.Sprintf("c%d", i%3)
		put(a, id, record(id, left, right, ""))
		a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/"+id)
	}
	lab.Eventually(t, 10*time.Second, "all to go", func() error {
		return none(append(append(left.Interfaces(t), right.Interfaces(t)...),
			strings.Fields(a.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/status/"))...))
	})
}

func TestDeletionInEtcdClosesAConnection(t *testing.T) {
	s := newSetup(t)
	conn := s.client.Connect("c1", "fw", s.ns, "nsm0")
	s.agent.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/c1")
	lab.Eventually(t, 5*time.Second, "the link to go", func() error { return none(s.ns.Interfaces(t)) })
	select {
	case <-s.endpoint.Closed:
	case <-time.After(5 * time.Second):
		t.Error("the endpoint was not told")
	}
	start := time.Now()
	s.client.Disconnect(conn) // its client closes what is closed already
	if took := time.Since(start); took > time.Second {
		t.Errorf("closing what is not there took %v", took)
	}
	s.client.Disconnect(s.client.Connect("c1", "fw", s.ns, "nsm0"))
}
