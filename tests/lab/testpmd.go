package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.patchbay.dev/tests/report"
)

// Testpmd is a DPDK workload: one port over memif or virtio-user, or two memifs.
type Testpmd struct {
	t       testing.TB
	command []string
	cmd     *exec.Cmd
	in      io.WriteCloser
	lines   chan string
	ended   chan struct{}
	kill    func()
}

// MemifDevice is the client's end of a memif socket, for Testpmd.
func MemifDevice(socket string, more ...string) string {
	return strings.Join(append([]string{"net_memif0,role=client,id=0,socket=" + socket + ",socket-abstract=no"}, more...), ",")
}

// VirtioDevice is the driver's end of a vhost-user socket, for Testpmd.
func VirtioDevice(socket string, more ...string) string {
	return strings.Join(append([]string{"net_virtio_user0,path=" + socket + ",queues=1"}, more...), ",")
}

var dpdkVersion = sync.OnceValue(func() string {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", "dpdk-dev").Output()
	if err != nil {
		return "of an unknown version"
	}
	return string(out)
})

// StartTestpmd runs a workload that forwards in a mode: icmpecho answers ARP and pings,
// rxonly counts, txonly and flowgen send. The test is skipped without DPDK.
func StartTestpmd(t testing.TB, device, mode string, args ...string) *Testpmd {
	t.Helper()
	return startTestpmd(t, []string{device}, mode, args...)
}

// StartMemifLoop runs a workload with two memifs, ports 0 and 1, that sends out of each what
// it has received on the other, and as yet is stopped.
func StartMemifLoop(t testing.TB, sockets [2]string, args ...string) *Testpmd {
	t.Helper()
	second := strings.Replace(MemifDevice(sockets[1]), "net_memif0", "net_memif1", 1)
	p := startTestpmd(t, []string{MemifDevice(sockets[0]), second}, "io", args...)
	p.Stop()
	return p
}

func startTestpmd(t testing.TB, devices []string, mode string, args ...string) *Testpmd {
	t.Helper()
	path, err := exec.LookPath("dpdk-testpmd")
	if err != nil {
		t.Skip("needs dpdk-testpmd: install it with: apt-get install dpdk-dev")
	}
	report.Part(t, "DPDK", dpdkVersion())
	prefix := fmt.Sprintf("pb%d", time.Now().UnixNano())
	memory := []string{"--no-huge", "-m", "256"}
	if strings.HasPrefix(devices[0], "net_virtio") {
		NeedHugepages(t)
		memory = []string{"--in-memory", "--single-file-segments", "-m", "128"}
	}
	own := []string{"-l", "0,1", "--no-pci", "--no-telemetry", "--file-prefix=" + prefix}
	for _, d := range devices {
		own = append(own, "--vdev="+d)
	}
	args = append(append(own, memory...),
		append([]string{"--", "-i", "--forward-mode=" + mode, "--nb-cores=1", "--no-mlockall", "--total-num-mbufs=4096"}, args...)...)
	// Into a pipe it would write by the block.
	p := &Testpmd{t: t, command: append([]string{"stdbuf", "-oL", path}, args...)}
	p.start()
	t.Cleanup(p.Kill)
	return p
}

// start starts the process and waits until it forwards.
func (p *Testpmd) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.command[0], p.command[1:]...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	cmd, lines, ended := p.cmd, make(chan string, 4096), make(chan struct{})
	p.lines, p.ended = lines, ended
	go func() {
		defer close(lines)
		defer close(ended)
		s := bufio.NewScanner(out)
		for s.Scan() {
			lines <- s.Text()
		}
	}()
	p.kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // or it has ended
		go func() {
			for range lines { // so that it can end
			}
		}()
		_ = cmd.Wait() // killed, which is what it says
	})
	p.Forward("start")
}

// Forward has it forward, by "start" or "start tx_first".
func (p *Testpmd) Forward(command string) {
	p.t.Helper()
	p.Command(command)
	p.expect("packet forwarding")
}

// Stop ends the forwarding. It reads all that is said of it: counts, which are not the port's.
func (p *Testpmd) Stop() {
	p.t.Helper()
	p.Command("stop")
	p.expect("Done.")
}

// Command types a command.
func (p *Testpmd) Command(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, s+"\n"); err != nil {
		p.t.Fatalf("testpmd: %v", err)
	}
}

// expect reads until a line holds a text, and gives that line.
func (p *Testpmd) expect(text string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var seen []string
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("testpmd ended before it said %q:\n%s", text, strings.Join(seen, "\n"))
			}
			seen = append(seen, line)
			if strings.Contains(line, text) {
				return line
			}
		case <-ctx.Done():
			p.t.Fatalf("testpmd did not say %q:\n%s", text, strings.Join(seen, "\n"))
		}
	}
}

// Reconnect has a memif port connect again, which DPDK's does only when it is started. A
// workload that has not survived the end of its server, while it polled its rings, is
// started again.
func (p *Testpmd) Reconnect() {
	p.t.Helper()
	select {
	case <-p.ended:
		p.t.Log("testpmd has ended with its server; another takes its place")
		p.kill()
		p.start()
		return
	default:
	}
	for _, c := range []string{"stop", "port stop 0", "port start 0", "start"} {
		p.Command(c)
	}
}

var packets = regexp.MustCompile(`packets: *([0-9]+)`)

// Packets counts what port 0 has received and sent.
func (p *Testpmd) Packets() (received, sent uint64) {
	p.t.Helper()
	return p.PacketsAt(0)
}

// PacketsAt counts what a port has received and sent.
func (p *Testpmd) PacketsAt(port int) (received, sent uint64) {
	p.t.Helper()
	p.Command(fmt.Sprint("show port stats ", port))
	read := func(what string) uint64 {
		m := packets.FindStringSubmatch(p.expect(what))
		if m == nil {
			p.t.Fatal("testpmd's counters cannot be read")
		}
		n, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		return n
	}
	return read("RX-packets"), read("TX-packets")
}

// Kill ends it at once.
func (p *Testpmd) Kill() { p.kill() }
