package linux

import (
	"errors"
	"strings"
	"testing"
)

func TestCanonicalSpelling(t *testing.T) {
	for in, want := range map[string]string{
		"blue":                                "/run/netns/blue",
		"/run/netns/blue":                     "/run/netns/blue",
		"/var//run/./netns/../netns/blue":     "/var/run/netns/blue",
		"file:///proc/123/ns/net":             "/proc/123/ns/net",
		"/proc/self/task/9/ns/net":            "/proc/self/task/9/ns/net",
		"inode://4/42?cookie=7&boot=deadbeef": "inode://4/42?cookie=7&boot=deadbeef",
		"inode://4/42?boot=deadbeef&cookie=7": "inode://4/42?cookie=7&boot=deadbeef",
	} {
		if got, err := Canonical(in); got != want || err != nil {
			t.Errorf("Canonical(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestWhatIsNoReference(t *testing.T) {
	for _, in := range []string{
		"", ".", "..", "/", "a/b", "../a", "a:b", "a\nb", "a\x00", strings.Repeat("a", 256), "/" + strings.Repeat("a/", 2100),
		"file://host/run/netns/a", "file://", "file:///a?b", "http://x/y",
		"inode://4/42", "inode://4/42?cookie=7", "inode://x/42?cookie=7&boot=d", "inode://4/42?cookie=7&boot=d&x=1", "inode://4/-1?cookie=7&boot=d",
	} {
		if got, err := Canonical(in); !errors.Is(err, ErrBadRef) {
			t.Errorf("Canonical(%q) = %q, %v; want ErrBadRef", in, got, err)
		}
	}
}

func TestTagsAreReadAsTheyAreWritten(t *testing.T) {
	for _, tag := range []Tag{{"c1", Client}, {"a.b-c", Endpoint}} {
		if got, ok := ParseTag(tag.String()); got != tag || !ok {
			t.Errorf("ParseTag(%q) = %v, %v", tag, got, ok)
		}
	}
	for _, alias := range []string{"", "uplink", "patchbay", "patchbay:c1", "patchbay::client", "patchbay:c1:middle", "patchbay:c1:client:x"} {
		if tag, ok := ParseTag(alias); ok {
			t.Errorf("%q passes for the tag %v", alias, tag)
		}
	}
}

func TestDerivedAddressesAreUnicastLocalAndDifferent(t *testing.T) {
	seen := map[MAC]bool{}
	for _, id := range []string{"c1", "c2", "c3", "x"} {
		for _, side := range Sides {
			mac := Tag{id, side}.MAC()
			if mac[0]&3 != 2 || seen[mac] || mac != (Tag{id, side}).MAC() {
				t.Errorf("the address of %s %s is %s", id, side, mac)
			}
			seen[mac] = true
		}
	}
}

func TestTableNumbersTellTheirInterface(t *testing.T) {
	for _, index := range []int{1, 2, 77, 1 << 20} {
		for _, policy := range []int{1, 2, MaxPolicies} {
			table := Table(index, policy)
			if got, ok := policyOf(table, index); got != policy || !ok {
				t.Errorf("table %d of interface %d policy %d is read as %d, %v", table, index, policy, got, ok)
			}
			if _, ok := policyOf(table, index+1); ok {
				t.Errorf("table %d of interface %d is taken for one of %d", table, index, index+1)
			}
		}
	}
	for _, table := range []uint32{0, 100, 253, 254, 255, 1<<31 - 1} {
		if _, ok := policyOf(table, 2); ok {
			t.Errorf("table %d is taken for ours", table)
		}
	}
}

func TestMountinfoIsReadWithItsEscapes(t *testing.T) {
	line := `37 25 0:4 net:[4026532345] /run/net\040ns/a\134b rw shared:20 - nsfs nsfs rw`
	id, path, ok := parseMount(line)
	if want := (identity{4, 4026532345}); id != want || path != `/run/net ns/a\b` || !ok {
		t.Errorf("got %v, %q, %v", id, path, ok)
	}
	for _, other := range []string{"", "1 2 3", `37 25 0:4 mnt:[4026532345] /run/x rw - nsfs nsfs rw`, `37 25 0:4 / /run rw - tmpfs tmpfs rw`} {
		if _, path, ok := parseMount(other); ok {
			t.Errorf("%q passes for a network namespace at %q", other, path)
		}
	}
}
