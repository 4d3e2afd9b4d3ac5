// Package house holds the rules of this project's folders as a test: who may import
// whom, what is kept in one room, and what every folder has.
package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A file is one Go file of the tree.
type file struct {
	path      string // from the root, with slashes
	folder    string
	syntax    *ast.File
	lines     int
	test      bool
	generated bool
}

// Check reads the Go files below root and gives what breaks the rules, each as
// "path: what; remedy". Modules of their own, testdata and hidden folders are left out.
func Check(root string) ([]string, error) {
	files, err := read(root)
	if err != nil {
		return nil, err
	}
	var wrong []string
	for _, f := range files {
		wrong = append(wrong, f.imports()...)
		wrong = append(wrong, f.contents()...)
	}
	return append(wrong, readmes(root, files)...), nil
}

func read(root string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && foreign(name, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f, err := parse(name, filepath.ToSlash(rel))
		files = append(files, f)
		return err
	})
	return files, err
}

func foreign(name, base string) bool {
	_, err := os.Stat(filepath.Join(name, "go.mod"))
	return err == nil || base == "testdata" || base == "bin" || strings.HasPrefix(base, ".")
}

func parse(name, rel string) (file, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return file{}, err
	}
	syntax, err := parser.ParseFile(token.NewFileSet(), rel, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	return file{
		path: rel, folder: path.Dir(rel), syntax: syntax,
		lines:     bytes.Count(text, []byte("\n")),
		test:      strings.HasSuffix(rel, "_test.go"),
		generated: ast.IsGenerated(syntax),
	}, nil
}

// below reports whether name is prefix or under it.
func below(name, prefix string) bool {
	return name == prefix || strings.HasPrefix(name, prefix+"/")
}

func belowAny(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return p == "*" || below(name, p) })
}

// room is the innermost room that a folder belongs to.
func room(folder string) (Room, bool) {
	var found Room
	for _, r := range Rooms {
		if below(folder, r.Folder) && len(r.Folder) > len(found.Folder) {
			found = r
		}
	}
	return found, found.Folder != ""
}

func (f file) imports() []string {
	r, ok := room(f.folder)
	if !ok {
		return []string{fmt.Sprintf("%s: the folder is in no room; add it to Rooms in tests/house/rules.go", f.path)}
	}
	var wrong []string
	for _, spec := range f.syntax.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has refused it
		}
		if why := f.refuses(r, name); why != "" {
			wrong = append(wrong, fmt.Sprintf("%s: imports %s; %s", f.path, name, why))
		}
	}
	return wrong
}

// refuses says why a file may not import name; empty: it may.
func (f file) refuses(r Room, name string) string {
	if belowAny(f.folder, []string{"tests"}) {
		return ""
	}
	for _, o := range Onlys {
		free := f.test && !below(name, module)
		if below(name, o.Lib) && !below(f.folder, o.Folder) && !free {
			return "only " + o.Folder + " may"
		}
	}
	inner, own := strings.CutPrefix(name, module+"/")
	first, _, _ := strings.Cut(name, "/")
	switch {
	case f.test:
		return ""
	case own && below(f.folder, "plugins/mechanism") && mechanismOf(inner) != "" && mechanismOf(inner) != mechanismOf(f.folder):
		return "no mechanism may import another"
	case own && !below(inner, r.Folder) && !belowAny(inner, r.Rooms):
		return r.Folder + " may import " + listed(r.Rooms)
	case !own && strings.Contains(first, ".") && !belowAny(name, r.Libs):
		return r.Folder + " may import " + listed(r.Libs)
	}
	return ""
}

// mechanismOf is NAME in plugins/mechanism/NAME/…, empty for what is no mechanism's.
func mechanismOf(folder string) string {
	rest, _ := strings.CutPrefix(folder, "plugins/mechanism/")
	if rest == folder {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func listed(names []string) string {
	if len(names) == 0 {
		return "nothing of this kind"
	}
	return "only " + strings.Join(names, ", ")
}

// contents checks what is in a file.
func (f file) contents() []string {
	if f.generated {
		return nil
	}
	var wrong []string
	limit := maxLines
	if f.test {
		limit = maxTestLines
	}
	if f.lines > limit {
		wrong = append(wrong, fmt.Sprintf("%s: has %d lines; split it by subject, at most %d", f.path, f.lines, limit))
	}
	for _, d := range f.syntax.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			wrong = append(wrong, f.path+": has an init function; register in the ordered list of the agent")
		}
	}
	if f.test || below(f.folder, Setns.Folder) || below(f.folder, "tests") {
		return wrong
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains(Setns.Names, s.Sel.Name) {
			if pkg, ok := s.X.(*ast.Ident); ok && (pkg.Name == "unix" || pkg.Name == "syscall") {
				wrong = append(wrong, fmt.Sprintf("%s: uses %s.%s; only %s may", f.path, pkg.Name, s.Sel.Name, Setns.Folder))
			}
		}
		return true
	})
	return wrong
}

// readmes finds the plugins that do not say what they are for.
func readmes(root string, files []file) []string {
	var wrong []string
	seen := map[string]bool{}
	for _, f := range files {
		dir := plugin(f.folder)
		if dir == "" || seen[dir] {
			continue
		}
		seen[dir] = true
		if _, err := os.Stat(filepath.Join(root, dir, "README.md")); err != nil {
			wrong = append(wrong, dir+": has no README.md; say what it is for, the way through it, and what it does not do")
		}
	}
	return wrong
}

// plugin is the folder of the plugin that a folder belongs to, empty for other rooms:
// plugins/NAME, or plugins/mechanism/NAME.
func plugin(folder string) string {
	parts := strings.Split(folder, "/")
	n := 2
	if len(parts) > 2 && parts[1] == "mechanism" {
		n = 3
	}
	if parts[0] != "plugins" || len(parts) < n {
		return ""
	}
	return strings.Join(parts[:n], "/")
}
