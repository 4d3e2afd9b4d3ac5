package lab

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.patchbay.dev/vppapi/vpptest"
)

// Process is a command that runs in a namespace beside the test, and ends with it.
type Process struct {
	cmd   *exec.Cmd
	lines chan string
}

// Start runs a command in the namespace.
func (n *Namespace) Start(t testing.TB, command ...string) *Process {
	t.Helper()
	p := &Process{cmd: exec.Command("ip", append([]string{"netns", "exec", n.Name}, command...)...), lines: make(chan string, 4096)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		s := bufio.NewScanner(out)
		for s.Scan() {
			select {
			case p.lines <- s.Text():
			default: // nobody reads that much
			}
		}
	}()
	t.Cleanup(p.Kill)
	return p
}

// Await waits until the command says something, for at most 10 s.
func (p *Process) Await(t testing.TB, text string) string {
	t.Helper()
	late := time.After(vpptest.Patience(10 * time.Second))
	last := ""
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("%s ended before it said %q; its last word was %q", p.cmd.Args, text, last)
			}
			if last = line; strings.Contains(line, text) {
				return line
			}
		case <-late:
			t.Fatalf("%s did not say %q", p.cmd.Args, text)
		}
	}
}

// Kill ends the command, if it has not ended.
func (p *Process) Kill() {
	if err := p.cmd.Process.Kill(); err == nil {
		_ = p.cmd.Wait() // killed, which is what it says
	}
}

// Interrupt ends the command as a user does, and waits for its end.
func (p *Process) Interrupt(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // interrupted, which is what it says
}

// Stat reads the numbers of /proc/PID/stat that are wanted, by their places in proc(5), from 4 on.
func Stat(t testing.TB, pid int, places ...int) []int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	const first = 3 // the place of what follows the program's name, which may hold spaces
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	numbers := make([]int, len(places))
	for i, place := range places {
		if numbers[i], err = strconv.Atoi(fields[place-first]); err != nil {
			t.Fatal(err)
		}
	}
	return numbers
}
