package kernel

import (
	"errors"
	"strings"
	"testing"

	"go.patchbay.dev/models"
)

func TestParametersThatAreRight(t *testing.T) {
	for _, p := range []map[string]string{
		{"netns": "blue"},
		{"netns": "/run/netns/blue", "name": "nsm0"},
		{"netns": "file:///proc/1/ns/net", "name": "eth0.100"},
		{"netns": "inode://4/42?cookie=7&boot=deadbeef", "name": "fifteen-letters"},
		{"netns": "blue", "supportsVlan": "true", "routeLocalNet": "true", "inodeURL": "inode://4/42", "MTU": "9000"},
	} {
		if err := new(Mechanism).Validate(p); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func TestParametersThatAreWrongAreNamed(t *testing.T) {
	for _, c := range []struct{ key, value string }{
		{"netns", ""}, {"netns", "a/b"}, {"netns", "/"}, {"netns", "inode://4/42"}, {"netns", "http://x"},
		{"name", "sixteen-letters-"}, {"name", "a/b"}, {"name", "a:1"}, {"name", "a b"}, {"name", "a\tb"}, {"name", "a\x00"},
		{"name", "a\x7f"}, {"name", "x\u00a0"}, {"name", "eth%d"}, {"name", "."}, {"name", ".."}, {"name", "lo"}, {"name", "all"}, {"name", "default"},
		{"nmae", "nsm0"}, {"socketfile", "x"},
	} {
		p := map[string]string{"netns": "blue"}
		p[c.key] = c.value
		var f *models.FieldError
		if err := new(Mechanism).Validate(p); !errors.As(err, &f) || f.Field != c.key || f.Reason == "" {
			t.Errorf("%s=%q: %v", c.key, c.value, err)
		}
	}
}

func TestDerivedNamesFitAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, id := range []string{"c1", "c2", strings.Repeat("x", 63)} {
		for _, tag := range tagsOf(vethKey(id)) {
			name := derivedName(tag)
			if validateName(name) != nil || seen[name] || name != derivedName(tag) {
				t.Errorf("%v: %q", tag, name)
			}
			seen[name] = true
		}
	}
}
