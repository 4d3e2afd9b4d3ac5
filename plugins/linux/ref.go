package linux

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// namedDir is where ip-netns(8) keeps namespaces that have a name.
const namedDir = "/run/netns"

// magic are the paths whose last component is a symbolic link by the kernel's making,
// which leads to a namespace and nowhere else (proc(5)).
var magic = regexp.MustCompile(`^/proc/(self|thread-self|[0-9]+)(/task/[0-9]+)?/ns/net$`)

// inodeScheme begins the reference of a namespace that came as a descriptor.
const inodeScheme = "inode://"

// identity is a namespace's place in the nsfs file system. Inode numbers are used again.
type identity struct{ dev, ino uint64 }

// ref is a parsed reference: a path, or the identity of a namespace that came as a
// descriptor, with what guards against the identity being used again.
type ref struct {
	path   string
	id     identity
	cookie uint64 // SO_NETNS_COOKIE, unique until the machine restarts
	boot   string // short hash of the boot id
}

// String gives the one spelling of a reference that is kept in records and keys.
func (r ref) String() string {
	if r.path != "" {
		return r.path
	}
	return fmt.Sprintf(inodeScheme+"%d/%d?cookie=%d&boot=%s", r.id.dev, r.id.ino, r.cookie, r.boot)
}

// Canonical gives the one spelling of a reference to a network namespace: an absolute
// path or an inode:// URL. A name NAME stands for /run/netns/NAME, a file:// URL for its
// path. It looks at the text only. Errors wrap [ErrBadRef].
func Canonical(s string) (string, error) {
	r, err := parseRef(s)
	if err != nil {
		return "", err
	}
	return r.String(), nil
}

func parseRef(s string) (ref, error) {
	switch {
	case len(s) > 4095 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return ref{}, refError(s, ErrBadRef, "control characters or too long")
	case strings.HasPrefix(s, inodeScheme):
		return parseInode(s)
	case strings.HasPrefix(s, "file://"):
		u, err := url.Parse(s)
		if err != nil || u.Host != "" || u.RawQuery != "" || u.Fragment != "" {
			return ref{}, refError(s, ErrBadRef, "a file URL has a path only")
		}
		return parsePath(s, u.Path)
	case strings.HasPrefix(s, "/"):
		return parsePath(s, s)
	case s == "" || s == "." || s == ".." || len(s) > 255 || strings.ContainsAny(s, "/:"):
		return ref{}, refError(s, ErrBadRef, "")
	}
	return ref{path: path.Join(namedDir, s)}, nil
}

func parsePath(s, p string) (ref, error) {
	p = path.Clean(p)
	if !path.IsAbs(p) || p == "/" {
		return ref{}, refError(s, ErrBadRef, "the path must be absolute")
	}
	return ref{path: p}, nil
}

// parseInode reads what String writes, which every step of a connection does: package net/url takes
// ten times as long.
func parseInode(s string) (ref, error) {
	place, query, _ := strings.Cut(strings.TrimPrefix(s, inodeScheme), "?")
	d, i, _ := strings.Cut(place, "/")
	dev, err1 := strconv.ParseUint(d, 10, 64)
	ino, err2 := strconv.ParseUint(i, 10, 64)
	one, other, _ := strings.Cut(query, "&")
	if strings.HasPrefix(one, "boot=") {
		one, other = other, one
	}
	cookie, err3 := strconv.ParseUint(strings.TrimPrefix(one, "cookie="), 10, 64)
	boot, ok := strings.CutPrefix(other, "boot=")
	if err1 != nil || err2 != nil || err3 != nil || !strings.HasPrefix(one, "cookie=") || !ok || boot == "" || strings.ContainsAny(boot, "&=%#") {
		return ref{}, refError(s, ErrBadRef, "a descriptor's reference has dev, ino, cookie and boot")
	}
	return ref{id: identity{dev, ino}, cookie: cookie, boot: boot}, nil
}
