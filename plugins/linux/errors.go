package linux

import (
	"errors"
	"fmt"
)

// Reasons why a namespace cannot be had. The errors that wrap them name the
// reference and say what to do.
var (
	// ErrBadRef: the text is no reference to a network namespace.
	ErrBadRef = errors.New("not a reference to a network namespace")
	// ErrNoNamespace: it does not exist, or no longer.
	ErrNoNamespace = errors.New("no such network namespace")
	// ErrNotNamespace: something is there that is not a network namespace.
	ErrNotNamespace = errors.New("not a network namespace")
	// ErrSymlink: the path ends in a symbolic link, which could be led elsewhere.
	ErrSymlink = errors.New("is a symbolic link")
	// ErrOwnNamespace: it is the agent's own and the configuration does not allow that.
	ErrOwnNamespace = errors.New("is the agent's own network namespace")
)

// ErrNoLink: there is no such interface.
var ErrNoLink = errors.New("no such interface")

// remedies completes a reason by what to do about it.
var remedies = map[error]string{
	ErrBadRef:       "write a name like blue, an absolute path like /run/netns/blue, or inode://DEV/INO?cookie=C&boot=B",
	ErrNoNamespace:  "create it, for instance with: ip netns add NAME",
	ErrNotNamespace: "name a file that a network namespace is mounted on",
	ErrSymlink:      "name the file that it points to",
	ErrOwnNamespace: "name the workload's namespace",
}

// refError says what is wrong with a reference and what to do; reason is one of the above.
func refError(ref string, reason error, detail string) error {
	if detail != "" {
		detail = " (" + detail + ")"
	}
	return fmt.Errorf("network namespace %q: %w%s; %s", ref, reason, detail, remedies[reason])
}
