package vm

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A Tree is the guest's file system: it lives in memory, so that nothing is shared with
// the machine.
type Tree struct {
	files map[string]node
}

type node struct {
	mode    uint32 // as of stat(2)
	content string // or the target of a symbolic link
	from    string // the machine's file that has the content
}

// Modes of inodes (stat(2)).
const (
	modeFile = 0o100000
	modeDir  = 0o040000
	modeLink = 0o120000
)

// NewTree is empty.
func NewTree() *Tree { return &Tree{map[string]node{}} }

func (t *Tree) put(path string, n node) {
	path = strings.TrimPrefix(filepath.Clean(path), "/")
	for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
		if _, ok := t.files[dir]; !ok {
			t.files[dir] = node{mode: modeDir | 0o755}
		}
	}
	t.files[path] = n
}

// Dir adds a folder.
func (t *Tree) Dir(path string) { t.put(path, node{mode: modeDir | 0o755}) }

// Link adds a symbolic link.
func (t *Tree) Link(path, target string) { t.put(path, node{mode: modeLink | 0o777, content: target}) }

// Text adds a file that can be executed.
func (t *Tree) Text(path, content string) {
	t.put(path, node{mode: modeFile | 0o755, content: content})
}

// File adds one of the machine's.
func (t *Tree) File(path, from string) { t.put(path, node{mode: modeFile | 0o755, from: from}) }

var neededLibrary = regexp.MustCompile(`(?m)(?:=> )?(/\S+) \(0x`)

// Program adds a program, or a library, of the machine's with the libraries it needs, each
// where it is here. Libraries are looked for in these folders first.
func (t *Tree) Program(path string, libraries ...string) error {
	if f, err := elf.Open(path); err == nil {
		imported, err := f.ImportedLibraries()
		if f.Close(); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if len(imported) == 0 {
			t.File(path, path)
			return nil
		}
	}
	cmd := exec.Command("ldd", path)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	out, err := cmd.Output()
	if err != nil || strings.Contains(string(out), "not found") {
		return fmt.Errorf("ldd %s: %v\n%s", path, err, out)
	}
	t.File(path, path)
	for _, lib := range neededLibrary.FindAllStringSubmatch(string(out), -1) {
		t.File(lib[1], lib[1])
	}
	return nil
}

// Write writes the tree as Linux unpacks it at its start: cpio, "newc" (the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst).
func (t *Tree) Write(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for i, path := range slices.Sorted(maps.Keys(t.files)) { // folders before what is in them
		if err = record(w, i+1, path, t.files[path]); err != nil {
			break
		}
	}
	if err == nil {
		err = record(w, 0, "TRAILER!!!", node{})
	}
	if err == nil {
		err = w.Flush()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func record(w io.Writer, inode int, path string, n node) error {
	content := []byte(n.content)
	if n.from != "" {
		var err error
		if content, err = os.ReadFile(n.from); err != nil {
			return err
		}
	}
	// magic, inode, mode, uid, gid, links, mtime, size, device ×2, special device ×2, name's length, checksum
	_, err := fmt.Fprintf(w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s",
		inode, n.mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path)+1, 0, padded(path+"\x00", 110))
	if err == nil {
		_, err = io.WriteString(w, padded(string(content), 0))
	}
	return err
}

// padded ends at a multiple of 4 bytes, after so many others.
func padded(s string, before int) string {
	return s + strings.Repeat("\x00", (4-(before+len(s))%4)%4)
}

// Modules adds a kernel's modules with those that they need, unpacked, and gives their
// paths in the order in which they can be loaded. What is built into the kernel needs none.
func (t *Tree) Modules(p *Packages, names ...string) (order []string, err error) {
	dir := filepath.Join(p.Root, "usr/lib/modules", p.Kernel, "kernel")
	files := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko.xz"); ok {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var add func(name string) error
	add = func(name string) error {
		at := "/modules/" + name + ".ko"
		path, ok := files[name]
		if !ok || slices.Contains(order, at) {
			return nil
		}
		content, err := exec.Command("xz", "-dc", path).Output()
		if err != nil {
			return fmt.Errorf("unpack %s: %w", path, err)
		}
		for _, need := range needs(content) {
			if err := add(need); err != nil {
				return err
			}
		}
		t.Text(at, string(content))
		order = append(order, at)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

var dependsOn = regexp.MustCompile(`\x00depends=([^\x00]+)\x00`)

// needs reads what a module says of itself (.modinfo).
func needs(module []byte) []string {
	if found := dependsOn.FindSubmatch(module); found != nil {
		return strings.Split(strings.ReplaceAll(string(found[1]), "-", "_"), ",")
	}
	return nil
}
