package nstest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Variables of a copy's environment.
const (
	roleVariable     = "PATCHBAY_TEST_ROLE"
	withVariable     = "PATCHBAY_TEST_WITH"
	instanceVariable = "PATCHBAY_TEST_INSTANCE"
)

// Instance tells what a test and its copies make from what others make on this machine.
func Instance(t testing.TB) string {
	if s := os.Getenv(instanceVariable); s != "" {
		return s
	}
	return fmt.Sprintf("%d %s %p", os.Getpid(), t.Name(), t)
}

// A Copy is a test that is run again, in a process in another network namespace.
type Copy struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	said strings.Builder
	out  *bufio.Scanner
}

// Start runs the test again in the namespace at path, with a role and what that needs to
// know. It ends with the test or by End.
func Start(t testing.TB, path, role string, with any) *Copy {
	t.Helper()
	Need(t)
	text, err := json.Marshal(with)
	if err != nil {
		t.Fatal(err)
	}
	run := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	c := &Copy{t: t, cmd: exec.Command("nsenter", "--net="+path, "--", "/proc/self/exe", "-test.run="+run, "-test.v", "-test.count=1")}
	if c.cmd.Args[3], err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	c.cmd.Env = append(os.Environ(), roleVariable+"="+role, withVariable+"="+string(text), instanceVariable+"="+Instance(t))
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.cmd.Stderr = c.cmd.Stdout
		c.in, err = c.cmd.StdinPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatalf("start a copy of the test: %v", err)
	}
	c.out = bufio.NewScanner(out)
	t.Cleanup(c.End)
	return c
}

const readyWord = "the copy is ready"

// Ready waits until the copy says that it is.
func (c *Copy) Ready() {
	c.t.Helper()
	for c.out.Scan() {
		c.said.WriteString(c.out.Text() + "\n")
		if strings.Contains(c.out.Text(), readyWord) {
			return
		}
	}
	c.End()
	c.t.FailNow()
}

// Kill ends the copy as a crash would.
func (c *Copy) Kill() {
	if c.cmd == nil {
		return
	}
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Error(err)
	}
	_ = c.cmd.Wait() // killed, which is what it says
	c.cmd = nil
}

// End has the copy end, and fails the test if the copy has failed.
func (c *Copy) End() {
	c.t.Helper()
	if c.cmd == nil {
		return
	}
	c.in.Close()
	for c.out.Scan() {
		c.said.WriteString(c.out.Text() + "\n")
	}
	if err := c.cmd.Wait(); err != nil || !strings.Contains(c.said.String(), "--- PASS") {
		c.t.Errorf("the copy of the test failed: %v\n%s", err, &c.said)
	}
	c.cmd = nil
}

// Role is that of a copy, which reads with; empty in the test itself.
func Role(t testing.TB, with any) string {
	t.Helper()
	role := os.Getenv(roleVariable)
	if role == "" {
		return ""
	}
	if err := json.Unmarshal([]byte(os.Getenv(withVariable)), with); err != nil {
		t.Fatal(err)
	}
	return role
}

// Hold says that a copy is ready, and waits for its End, or that of the test.
func Hold() {
	fmt.Println(readyWord)
	io.Copy(io.Discard, os.Stdin)
}
