package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// ip runs lines of ip(8), all in one process; in a namespace, or in this process's own.
func ip(netns string, lines ...string) error { return batch("ip", netns, lines) }

// tc runs lines of tc(8) in a namespace.
func tc(netns string, lines ...string) error { return batch("tc", netns, lines) }

func batch(program, netns string, lines []string) error {
	args := []string{"-batch", "-"}
	if netns != "" {
		args = append([]string{"-n", netns}, args...)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s in %s: %w: %s", program, orHere(netns), err, bytes.TrimSpace(out))
	}
	return nil
}

func orHere(netns string) string {
	if netns == "" {
		return "this namespace"
	}
	return netns
}

// namedNetns is where ip-netns(8) keeps names.
const namedNetns = "/run/netns/"

// deleteNetns deletes a namespace, also one that was half made; none is no error.
func deleteNetns(name string) error {
	if _, err := os.Lstat(namedNetns + name); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := ip("", "netns delete "+name); err != nil {
		return fmt.Errorf("delete network namespace %s: %w", name, err)
	}
	return nil
}
