package tests

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// answers waits until a workload answers pings, and sees that it loses none of the next
// hundred and that its port counts them in both directions.
func answers(t *testing.T, ns *lab.Namespace, workload *lab.Testpmd, address string) {
	t.Helper()
	ns.Ping(t, address)
	rx, tx := workload.Packets()
	if out := ns.Run(t, "ping", "-q", "-c", "100", "-i", "0.01", address); !strings.Contains(out, "100 received") {
		t.Errorf("packets were lost: %s", out)
	}
	lab.Eventually(t, 5*time.Second, "the workload to have counted", func() error {
		if r, x := workload.Packets(); r < rx+100 || x < tx+100 {
			return fmt.Errorf("%d received and %d sent, before %d and %d", r, x, rx, tx)
		}
		return nil
	})
}

// The workload listens on a socket in a directory of its own, VPP connects to it, and does
// so again when either has gone and come back.
func TestVhostUserWhereTheWorkloadListens(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	client := kernelEnd(t, "nsm0", "10.60.0.1/24")
	s := connectEnds(t, a, "c1", "ETHERNET", 0, client, end{mechanism: "VHOST_USER", parameters: map[string]string{"server": "true", "owner": "1001:1001"}})
	socket := s.Endpoint.Parameters["socketfile"]
	if st, err := os.Stat(filepath.Dir(socket)); err != nil || st.Sys().(*syscall.Stat_t).Uid != 1001 || st.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory is %v, %v", st, err)
	}
	start := func() *lab.Testpmd {
		if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
			t.Fatal(err) // what one that was killed has left
		}
		workload := lab.StartTestpmd(t, lab.VirtioDevice(socket, "server=1"), "icmpecho")
		awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
		return workload
	}
	workload := start()
	answers(t, client.ns, workload, "10.60.0.2")

	workload.Kill()
	awaitState(t, a, "c1", func(s linkStatus) bool {
		return s.State == "DOWN" && strings.Contains(s.Reason, "endpoint interface")
	})
	workload = start()
	answers(t, client.ns, workload, "10.60.0.2")

	a.Kill()
	a.Start()
	a.WaitReady()
	answers(t, client.ns, workload, "10.60.0.2")
	if n := a.Operations(t); n != 0 {
		t.Errorf("%d operations changed the dataplane after the agent's restart", n)
	}

	v.Kill()
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "DOWN" })
	v.Restart()
	workload.Kill() // DPDK's goes on with a server that knows what the one before did
	workload = start()
	answers(t, client.ns, workload, "10.60.0.2")

	a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/c1")
	workload.Kill()
	emptied(t, a, v)
}

// Messages of vhost-user (QEMU: docs/interop/vhost-user.rst): request, flags with the
// version 1, size of what follows.
func vhostMessage(request, size uint32, payload ...byte) []byte {
	m := make([]byte, 12)
	binary.LittleEndian.PutUint32(m, request)
	binary.LittleEndian.PutUint32(m[4:], 1)
	binary.LittleEndian.PutUint32(m[8:], size)
	return append(m, payload...)
}

const vhostGetFeatures = 1

// half has a peer say half a message and keep its connection: VPP 25.10 waits for the rest
// with all of its main thread (src/plugins/vhost/vhost_user.c, vhost_user_socket_read).
func half(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(vhostMessage(vhostGetFeatures, 8)); err != nil {
		t.Fatal(err)
	}
	return c
}

// A guest that stops in the middle of a message holds up VPP, so its connection is one
// that only its owner can make. What is asked of the agent meanwhile fails by its
// deadline, and all is well as soon as the guest has gone.
func TestVhostUserPeerThatHoldsUpVPP(t *testing.T) {
	a, v, client, _ := vppSetup(t)
	s := connectEnds(t, a, "c2", "ETHERNET", 0, end{mechanism: "VHOST_USER"}, end{mechanism: "MEMIF"})
	requests := lab.NewClient(t, a.Dial())
	lab.NewEndpoint(t, a, "fw-1").Accept("MEMIF").Register(a.Dial(), "fw")
	before := dumpVPP(v)
	c := half(t, s.Client.Parameters["socketfile"])
	for i := range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		began := time.Now()
		_, err := requests.Request(ctx, lab.MemifRequest(fmt.Sprintf("more-%d", i), "fw"))
		cancel()
		t.Logf("a request ends after %v: %v", time.Since(began), err)
		if err == nil {
			t.Log("VPP is not held up")
		}
	}
	c.Close()
	lab.Eventually(t, 20*time.Second, "VPP as it was", func() error {
		if now := dumpVPP(v); now != before {
			return fmt.Errorf("it is:\n%s\nand was:\n%s", now, before)
		}
		return nil
	})
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	client.ns.Ping(t, "10.60.0.2")
}

// What a guest says may end VPP 25.10, which believes the size that a message claims to
// have. What the agent can do is to have everything back when VPP is.
func TestHostileVhostUserPeer(t *testing.T) {
	a, v, client, workload := vppSetup(t)
	s := connectEnds(t, a, "c2", "ETHERNET", 0, end{mechanism: "VHOST_USER"}, end{mechanism: "MEMIF"})
	socket := s.Client.Parameters["socketfile"]
	other := newSomebody(t, v.APISocket)
	alive := func() bool { _, err := other.Refresh(context.Background()); return err == nil }
	for _, attack := range []struct {
		name    string
		message []byte
	}{
		{"nothing", nil},
		{"a byte", []byte{1}},
		{"another version", append([]byte{1, 0, 0, 0, 9, 0, 0, 0}, make([]byte, 12)...)},
		{"an unknown request", vhostMessage(9999, 0)},
		{"memory without a descriptor", vhostMessage(5, 40, append([]byte{1, 0, 0, 0}, make([]byte, 36)...)...)},
		{"200 regions of memory", vhostMessage(5, 40, append([]byte{200, 0, 0, 0}, make([]byte, 36)...)...)},
		{"a ring that there is not", vhostMessage(8, 8, 0xff, 0xff, 0, 0, 0, 1, 0, 0)},
		{"a ring of no memory", vhostMessage(9, 40, make([]byte, 40)...)},
		{"more than there is room for", vhostMessage(vhostGetFeatures, 64<<10, make([]byte, 64<<10)...)},
	} {
		for range 5 {
			c, err := net.Dial("unix", socket)
			if err != nil {
				break // VPP is not there
			}
			_, _ = c.Write(attack.message)
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = io.Copy(io.Discard, c) // until VPP has looked at it
			c.Close()
		}
		up := alive()
		t.Logf("after %s VPP is alive: %v", attack.name, up)
		if !up {
			awaitState(t, a, "c1", func(s linkStatus) bool { return s.Endpoint.Interface == "" })
			v.Restart()
			awaitState(t, a, "c1", func(s linkStatus) bool { return s.Endpoint.Interface != "" })
			workload.Reconnect()
		}
		awaitState(t, a, "c2", func(s linkStatus) bool { return s.State == "DOWN" && s.Client.Interface != "" })
		awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
		client.ns.Ping(t, "10.60.0.2")
	}
	lab.StartTestpmd(t, lab.VirtioDevice(socket), "icmpecho")
	awaitState(t, a, "c2", func(s linkStatus) bool { return s.Client.LinkUp })
}

// What is joined with a worker of VPP's, too, loses nothing and leaves by it.
func TestVPPWithAWorker(t *testing.T) {
	v := vpptest.Start(t, vpptest.Workers(1))
	a := lab.StartAgent(t, lab.OnVPP(v))
	memif, vhost, kernel := end{mechanism: "MEMIF"}, end{mechanism: "VHOST_USER"}, kernelEnd(t, "nsm0", "10.60.0.1/24")
	s := connectEnds(t, a, "k1", "ETHERNET", 0, kernel, memif)
	workload := lab.StartTestpmd(t, lab.MemifDevice(s.Endpoint.Parameters["socketfile"]), "icmpecho")
	awaitState(t, a, "k1", func(s linkStatus) bool { return s.State == "UP" })
	answers(t, kernel.ns, workload, "10.60.0.2")
	placement := v.CLI("show interface rx-placement")
	if main, worker, ok := strings.Cut(placement, "Thread 1 "); !ok || strings.Contains(main, "memif") || !strings.Contains(worker, "memif") || !strings.Contains(worker, "host-") {
		t.Errorf("queues are placed\n%s", placement)
	}
	workload.Kill()
	a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/k1")

	s = connectEnds(t, a, "c1", "ETHERNET", 0, vhost, memif)
	reflects(t, a, lab.VirtioDevice(s.Client.Parameters["socketfile"]), lab.MemifDevice(s.Endpoint.Parameters["socketfile"]))
}
