package vm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// suite is the Debian release of QEMU and of the guest's kernel, whatever the machine runs.
const suite = "trixie"

// complete is the file that says that all is there.
const complete = "complete-" + suite

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Packages are QEMU, a kernel and busybox, unpacked from Debian's packages into a folder.
type Packages struct {
	Root   string
	Kernel string // release
}

// cacheDir is where downloads are kept: $XDG_CACHE_HOME/patchbay/vm.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "patchbay", "vm"), err
}

// Fetched tells whether the packages are there already.
func Fetched() bool {
	dir, err := cacheDir()
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, complete))
	}
	return err == nil
}

// Fetch gives the packages, which are downloaded once by a private apt: the machine's own
// packages, lists and sources stay as they are. It takes half a minute and 700 MB.
func Fetch() (*Packages, error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, err
	}
	stamp := filepath.Join(dir, complete)
	p := &Packages{Root: filepath.Join(dir, suite)}
	if release, err := os.ReadFile(stamp); err == nil {
		p.Kernel = string(release)
		return p, nil
	}
	if p.Kernel, err = download(filepath.Join(dir, "apt"), p.Root); err != nil {
		return nil, err
	}
	return p, os.WriteFile(stamp, []byte(p.Kernel), 0o600)
}

// apt is a private one in a folder.
type apt struct{ dir string }

// run runs a program of apt's in the folder's archive.
func (a apt) run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = filepath.Join(a.dir, "cache", "archives")
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, args[0], err, lastLine(errs.String()))
	}
	return out.String(), nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// newAPT makes one that knows nothing of the machine's packages.
func newAPT(dir, mirror string) (apt, error) {
	a := apt{dir}
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/sources.list.d", "etc/preferences.d"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return a, err
		}
	}
	files := map[string]string{
		"status":           "",
		"etc/sources.list": fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, mirror, suite),
		"apt.conf": fmt.Sprintf(`Dir::State "%[1]s/state"; Dir::State::status "%[1]s/status"; Dir::Cache "%[1]s/cache"; Dir::Etc "%[1]s/etc";
Dir::Etc::Parts "%[1]s/etc/apt.conf.d"; APT::Sandbox::User "root"; APT::Install-Recommends "false"; APT::Architecture "amd64";
`, dir),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return a, err
		}
	}
	return a, nil
}

// mirror is the one that the machine's own apt uses for Debian.
func mirror() (string, error) {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("ask apt for its sources: %w", err)
	}
	for _, uri := range strings.Fields(string(out)) {
		if uri = strings.TrimSuffix(uri, "/"); strings.HasSuffix(uri, "/debian") {
			return uri, nil
		}
	}
	return "", errors.New("the machine's apt has no Debian mirror")
}

var kernelPackage = regexp.MustCompile(`(?m)^Depends: .*\blinux-image-([0-9][^ ,]*-amd64)`)

// download fills root and tells the kernel's release.
func download(dir, root string) (release string, err error) {
	if _, err := os.Stat(keyring); err != nil {
		return "", fmt.Errorf("the package debian-archive-keyring is missing: %w", err)
	}
	from, err := mirror()
	if err != nil {
		return "", err
	}
	a, err := newAPT(dir, from)
	if err != nil {
		return "", err
	}
	if _, err = a.run("apt-get", "update"); err != nil {
		return "", err
	}
	about, err := a.run("apt-cache", "show", "linux-image-amd64")
	if err != nil {
		return "", err
	}
	found := kernelPackage.FindStringSubmatch(about)
	if found == nil {
		return "", errors.New("linux-image-amd64 depends on no kernel")
	}
	release = found[1]
	if _, err = a.run("apt-get", "install", "-y", "--download-only", "qemu-system-x86"); err != nil {
		return "", err
	}
	// Of these, not what they depend on.
	if _, err = a.run("apt-get", "download", "busybox-static", "linux-image-"+release); err != nil {
		return "", err
	}
	if err := os.RemoveAll(root); err != nil {
		return "", err
	}
	packages, err := filepath.Glob(filepath.Join(dir, "cache", "archives", "*.deb"))
	if err != nil {
		return "", err
	}
	for _, p := range packages {
		if out, err := exec.Command("dpkg-deb", "-x", p, root).CombinedOutput(); err != nil {
			return "", fmt.Errorf("unpack %s: %w: %s", filepath.Base(p), err, out)
		}
	}
	return release, os.RemoveAll(filepath.Join(dir, "cache"))
}
