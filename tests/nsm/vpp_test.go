package nsm

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.patchbay.dev/tests/nsm/workload"
)

// vpp is a VPP process of a test; this module cannot use vpptest of the other.
type vpp struct {
	t              *testing.T
	dir, prefix    string
	api, stats, cl string
}

// startVPP starts the VPP of $VPP_PREFIX or /opt/vpp; without one the test is skipped.
func startVPP(t *testing.T) *vpp {
	t.Helper()
	v := &vpp{t: t, prefix: os.Getenv("VPP_PREFIX")}
	if v.prefix == "" {
		v.prefix = "/opt/vpp"
	}
	binary := filepath.Join(v.prefix, "bin", "vpp")
	if _, err := os.Stat(binary); err != nil {
		t.Skipf("needs VPP: it is neither in $VPP_PREFIX nor in /opt/vpp")
	}
	dir, err := os.MkdirTemp("", "vpp")
	if err != nil {
		t.Fatal(err)
	}
	v.dir, v.api, v.stats, v.cl = dir, filepath.Join(dir, "api.sock"), filepath.Join(dir, "stats.sock"), filepath.Join(dir, "cli.sock")
	lib := filepath.Join(v.prefix, "lib", "x86_64-linux-gnu")
	conf := fmt.Sprintf("unix { nodaemon cli-listen %s }\napi-segment { prefix %s }\nsocksvr { socket-name %s }\nstatseg { socket-name %s }\n"+
		"buffers { page-size 4k buffers-per-numa 16384 }\nmemory { main-heap-page-size 4k }\nplugins { path %s/vpp_plugins plugin dpdk_plugin.so { disable } }\n",
		v.cl, filepath.Base(dir), v.api, v.stats, lib)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-c", filepath.Join(dir, "conf"))
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+lib)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	})
	for _, socket := range []string{v.api, v.cl} {
		eventually(t, "VPP", func() error {
			c, err := net.Dial("unix", socket)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	return v
}

func (v *vpp) cli(command string) string {
	v.t.Helper()
	return run(v.t, "env", "LD_LIBRARY_PATH="+filepath.Join(v.prefix, "lib", "x86_64-linux-gnu"), filepath.Join(v.prefix, "bin", "vppctl"), "-s", v.cl, command)
}

// NSM's client gets an abstract memif socket in its own network namespace, in IP mode for
// IP as payload, and reaches NSM's endpoint, which has an interface of the kernel.
func TestMemifClientReachesKernelEndpoint(t *testing.T) {
	start(t)
	v := startVPP(t)
	// VPP is in the test's own namespace, and so must its agent be.
	a := startAgentWith(t, nil, fmt.Sprintf("dataplane: vpp\nvpp: {api_socket: %q, stats_socket: %q, run_dir: %q}", v.api, v.stats, filepath.Join(v.dir, "run")))
	e := a.endpoint("nse", 1, nil).register()
	n := newNetns(t)
	w := a.client(n, nil)
	conn := w.do(workload.Command{Do: workload.Request, ID: "nsc-0", Service: "fw", Memif: true})
	m := conn.GetMechanism()
	socket := m.GetParameters()["socketfile"]
	if m.GetType() != "MEMIF" || !strings.HasPrefix(socket, "@") {
		t.Fatalf("mechanism %v", m)
	}

	peer := startVPP(t) // as NSM's VPP workloads are
	peer.cli("create memif socket id 1 filename abstract:" + socket[1:] + ",netns_name=/run/netns/" + n.name)
	peer.cli("create interface memif id 0 socket-id 1 slave mode ip")
	peer.cli("set interface state memif1/0 up")
	for _, address := range conn.GetContext().GetIpContext().GetSrcIpAddrs() {
		peer.cli("set interface ip address memif1/0 " + address)
	}
	for _, address := range conn.GetContext().GetIpContext().GetDstIpAddrs() {
		peer.cli("ip route add " + address + " via memif1/0")
	}
	for _, address := range conn.GetContext().GetIpContext().GetSrcIpAddrs() {
		e.net.ping(bare(t, address))
	}
	w.do(workload.Command{Do: workload.Close, ID: conn.Id})
	if out := v.cli("show interface"); strings.Contains(out, "memif") || strings.Contains(out, "host-") {
		t.Errorf("left in VPP after the close:\n%s", out)
	}
}
