package deviceplugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// opened is tokens on a file, with one for each device.
func opened(t *testing.T, ids ...string) (tokens *Tokens, file string, issued []string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "tokens.json")
	tokens, err := OpenTokens(file, []string{radio})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		list, err := tokens.issue(radio, []string{id})
		if err != nil {
			t.Fatal(err)
		}
		issued = append(issued, list...)
	}
	return tokens, file, issued
}

func TestHostileTokens(t *testing.T) {
	tokens, _, issued := opened(t, vf(0))
	_, _, foreign := opened(t, vf(0)) // another node's, for a device of the same address
	good := issued[0]
	for _, c := range []struct{ name, token, want string }{
		{"none", "", "the token has 0 bytes, not 42"},
		{"a path", "../../../../etc/patchbay/tokens.json", "the token has"},
		{"a path of the right length", "sriov-../../../../../../../../../../passwd", "stands for no device of this node"},
		{"of a megabyte", strings.Repeat("x", 1<<20), "the token has 1048576 bytes"},
		{"one with more after it", good + "\x00", "the token has 43 bytes"},
		{"one in capitals", strings.ToUpper(good), "stands for no device"},
		{"zeros", strings.Repeat("\x00", 42), "stands for no device"},
		{"its hash", hash(good)[:42], "stands for no device"},
		{"another node's", foreign[0], "it is another node's"},
		{"a list of them", good + "," + good, "the token has 85 bytes"},
	} {
		pool, id, err := tokens.Device(c.token)
		if err == nil {
			t.Errorf("%s: stands for %s of %s", c.name, id, pool)
		} else if !strings.Contains(err.Error(), c.want) || c.token != "" && strings.Contains(err.Error(), c.token) || len(err.Error()) > 200 {
			t.Errorf("%s: %v, want %q and not the token", c.name, err, c.want)
		}
	}
	if _, id, err := tokens.Device(good); err != nil || id != vf(0) {
		t.Errorf("the good one: %s, %v", id, err)
	}
}

func TestTokensAreKeptAndTheFileTellsNone(t *testing.T) {
	_, file, issued := opened(t, vf(0), vf(1))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	again, err := OpenTokens(file, []string{radio})
	if err != nil {
		t.Fatal(err)
	}
	for i, token := range issued {
		if strings.Contains(string(data), token[len(tokenPrefix):]) {
			t.Errorf("the file has token %d", i)
		}
		if _, id, err := again.Device(token); err != nil || id != vf(i) {
			t.Errorf("token %d stands for %s, %v", i, id, err)
		}
	}
}

func TestATokenIsVoidWhenItsDeviceIsGivenAnew(t *testing.T) {
	tokens, file, issued := opened(t, vf(0), vf(1))
	for _, token := range issued {
		if _, _, err := tokens.Device(token); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tokens.issue(radio, []string{vf(0)}); err != nil {
		t.Fatal(err)
	}
	again, err := OpenTokens(file, []string{radio})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []*Tokens{tokens, again} {
		if _, _, err := at.Device(issued[0]); err == nil || !strings.Contains(err.Error(), "kubelet has given the device to another pod") {
			t.Errorf("the token that was used: %v", err)
		}
		if _, _, err := at.Device(issued[1]); err != nil {
			t.Errorf("that of another device: %v", err)
		}
	}
}

func TestADeviceHasOnlySoManyTokens(t *testing.T) {
	tokens, _, first := opened(t, vf(0))
	var last string
	for range 2 * maxTokens {
		list, err := tokens.issue(radio, []string{vf(0)})
		if err != nil {
			t.Fatal(err)
		}
		last = list[0]
	}
	if len(tokens.issued) != maxTokens {
		t.Errorf("%d tokens, want %d", len(tokens.issued), maxTokens)
	}
	if _, _, err := tokens.Device(first[0]); err == nil {
		t.Error("the first is still good")
	}
	if _, _, err := tokens.Device(last); err != nil {
		t.Error(err)
	}
}

func TestAFileThatIsNone(t *testing.T) {
	for name, content := range map[string]string{"not JSON": "{\n", "no token": "{\"pool\": \"x\"}\n", "something else": "[\"x\"]\n"} {
		file := filepath.Join(t.TempDir(), "tokens.json")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenTokens(file, []string{radio}); err == nil || !strings.Contains(err.Error(), "sriov.tokens: "+file+": line 1 is no token") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenTokens(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: %v", err)
	}
}

// Whatever becomes of the file while the agent runs, what was issued last is in it.
func TestAFileThatSomethingHappensTo(t *testing.T) {
	for name, happens := range map[string]func(file string) error{
		"removed":   os.Remove,
		"emptied":   func(file string) error { return os.Truncate(file, 0) },
		"cut off":   func(file string) error { return os.Truncate(file, 20) },
		"grown":     func(file string) error { return os.Truncate(file, 1000) },
		"too large": func(string) error { return nil },
	} {
		tokens, file, issued := opened(t, vf(0), vf(1))
		if err := happens(file); err != nil {
			t.Fatal(err)
		}
		if name == "too large" {
			tokens.log.size = maxJournal
		}
		last, err := tokens.issue(radio, []string{vf(2)})
		if err != nil {
			t.Fatal(err)
		}
		again, err := OpenTokens(file, []string{radio})
		if err != nil {
			t.Fatal(name, err)
		}
		for i, token := range append(issued, last...) {
			if _, id, err := again.Device(token); err != nil || id != vf(i) {
				t.Errorf("%s: token %d stands for %s, %v", name, i, id, err)
			}
		}
	}
}

func TestALineThatAPowerFailureHasCutOff(t *testing.T) {
	_, file, issued := opened(t, vf(0), vf(1))
	st, err := os.Stat(file)
	if err == nil {
		err = os.Truncate(file, st.Size()-10)
	}
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := OpenTokens(file, []string{radio})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tokens.Device(issued[1]); err == nil {
		t.Error("half a line counts")
	}
	last, err := tokens.issue(radio, []string{vf(2)})
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenTokens(file, []string{radio})
	if err != nil {
		t.Fatal(err)
	}
	for i, token := range map[int]string{0: issued[0], 2: last[0]} {
		if _, id, err := again.Device(token); err != nil || id != vf(i) {
			t.Errorf("token %d stands for %s, %v", i, id, err)
		}
	}
}

func TestThatATokenWasUsedIsKept(t *testing.T) {
	tokens, file, issued := opened(t, vf(0))
	if _, _, err := tokens.Device(issued[0]); err != nil {
		t.Fatal(err)
	}
	again, err := OpenTokens(file, []string{radio})
	if err == nil {
		_, err = again.issue(radio, []string{vf(0)})
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := again.Device(issued[0]); err == nil {
		t.Error("after a restart, and given anew, the device's old token is good")
	}
}
