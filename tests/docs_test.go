package tests

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.patchbay.dev/tests/lab"
)

var update = flag.Bool("update", false, "write the generated parts of docs/reference.md")

var generated = regexp.MustCompile(`(?s)(<!-- generated: (\w+) -->\n).*?(<!-- end -->)`)

func TestReferenceIsWhatTheProgramPrints(t *testing.T) {
	const path = "../docs/reference.md"
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := generated.ReplaceAllStringFunc(string(have), func(part string) string {
		m := generated.FindStringSubmatch(part)
		return m[1] + lab.Run(t, lab.Binary(t), "reference", m[2]) + m[3]
	})
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(have) != want {
		t.Error("docs/reference.md is not what the program prints; run: go test ./tests -run Reference -update")
	}
}

func TestReferenceListsEveryMetric(t *testing.T) {
	s := newSetup(t)
	s.client.Connect("c1", "fw", s.ns, "nsm0")
	doc, err := os.ReadFile("../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range scrape(s.agent) {
		name, _, _ = strings.Cut(name, "{")
		name = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "patchbay_") && !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/reference.md does not list %s", name)
		}
	}
}

// TestAddingAMechanismWorksWordByWord follows docs/adding-a-mechanism.md in a copy of the
// source: the files, the lines in the list; then it builds, tests and uses the result.
func TestAddingAMechanismWorksWordByWord(t *testing.T) {
	doc, err := os.ReadFile("../docs/adding-a-mechanism.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	copySource(t, dir)
	files := regexp.MustCompile("(?s)`(plugins/mechanism/[^`]+)`[^`]*```(?:go|markdown)\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
	if len(files) != 4 {
		t.Fatalf("the page has %d files, want 4", len(files))
	}
	for _, f := range files {
		write(t, filepath.Join(dir, f[1]), f[2])
	}
	list := filepath.Join(dir, "agent/agent.go")
	for _, d := range regexp.MustCompile("(?s)```diff\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		apply(t, list, d[1])
	}
	program := filepath.Join(dir, "bin-patchbay")
	for _, command := range [][]string{
		{"gofmt", "-l", "plugins/mechanism", "agent"},
		{"go", "vet", "./plugins/mechanism/..."},
		{"go", "test", "./plugins/mechanism/shareddir", "./tests/house"},
		{"go", "build", "-o", program, "./agent/cmd/patchbay"},
	} {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || command[0] == "gofmt" && len(out) > 0 {
			t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
		}
	}

	a := lab.StartAgent(t, lab.Program(program), lab.With("vpp.run_dir", filepath.Join(dir, "run")))
	if out := a.Patchbay("explain", "--client", "SHAREDDIR", "--endpoint", "SHAREDDIR"); !strings.Contains(out, "SHAREDDIR: both ends") {
		t.Errorf("explain: %s", out)
	}
	end := `{"mechanism": {"type": "SHAREDDIR", "parameters": {"mode": "0700"}}}`
	put(a, "s1", `{"id": "s1", "client": `+end+`, "endpoint": `+end+`}`)
	awaitStatus(t, a, "s1", "UP")
	info, err := os.Stat(filepath.Join(dir, "run/shared/s1"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info, err)
	}
	if out := a.Patchbay("describe", "crossconnect", "s1"); !strings.Contains(out, "run/shared/s1") {
		t.Errorf("describe: %s", out)
	}
}

func copySource(t *testing.T, dir string) {
	t.Helper()
	list := lab.Run(t, "git", "-C", "..", "ls-files", "--cached", "--others", "--exclude-standard")
	for _, name := range strings.Split(strings.TrimSpace(list), "\n") {
		data, err := os.ReadFile(filepath.Join("..", name))
		if os.IsNotExist(err) {
			continue // deleted and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(data))
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// apply adds the + lines of a diff after the line that stands before them, an import
// after the last import of ours.
func apply(t *testing.T, path, diff string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	var added, after string
	for _, line := range strings.Split(strings.TrimSuffix(diff, "\n"), "\n") {
		if new, ok := strings.CutPrefix(line, "+"); ok {
			added += new + "\n"
		} else if added == "" {
			after = strings.TrimPrefix(line, " ") + "\n"
		}
	}
	if after == "" {
		after = "\t\"go.patchbay.dev/plugins/mechanism/kernel\"\n"
	}
	if strings.Count(text, after) != 1 {
		t.Fatalf("%s has the line %q %d times, want once", path, after, strings.Count(text, after))
	}
	write(t, path, strings.Replace(text, after, after+added, 1))
}
