package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.patchbay.dev/tests/report"
)

// An event is what `go test -json` says (go doc test2json).
type event struct {
	Action, Package, Test, Output, Key, Value, ImportPath string
	Elapsed                                               float64 // seconds
}

type id struct{ pkg, test string }

type summary struct {
	out                     io.Writer
	output                  map[id][]string // of what has not ended
	parts                   map[string]bool
	skips                   map[string]bool // "test: why"
	passed, failed, skipped int
	broken                  []string // packages that failed without a test that did
	failedIn                map[string]bool
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, output: map[id][]string{}, parts: map[string]bool{}, skips: map[string]bool{}, failedIn: map[string]bool{}}
}

func (s *summary) line(line []byte) {
	var e event
	if line[0] != '{' || json.Unmarshal(line, &e) != nil || e.Action == "" {
		fmt.Fprint(s.out, string(line))
		return
	}
	key := id{e.Package, e.Test}
	switch e.Action {
	case "output":
		s.output[key] = append(s.output[key], e.Output)
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "attr":
		if e.Key == report.Attribute {
			s.parts[e.Value] = true
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.packageEnds(e)
		} else {
			s.testEnds(e)
		}
		delete(s.output, key)
	}
}

func (s *summary) testEnds(e event) {
	key := id{e.Package, e.Test}
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		s.failedIn[e.Package] = true
		for _, o := range s.output[key] {
			if !strings.HasPrefix(o, "=== ") {
				fmt.Fprint(s.out, o)
			}
		}
	case "skip":
		s.skipped++
		s.skips[e.Test+": "+reason(s.output[key])] = true
	}
}

// reason is the text of t.Skip, which comes with its place: "    x_test.go:12: why".
func reason(output []string) string {
	for _, o := range slices.Backward(output) {
		o = strings.TrimSpace(o)
		if o == "" || strings.HasPrefix(o, "--- ") || strings.HasPrefix(o, "=== ") {
			continue
		}
		if _, why, ok := strings.Cut(o, ".go:"); ok {
			if _, text, ok := strings.Cut(why, ": "); ok {
				return text
			}
		}
		return o
	}
	return "no reason given"
}

func (s *summary) packageEnds(e event) {
	switch {
	case e.Action == "skip": // no test files
	case e.Action == "pass":
		fmt.Fprintf(s.out, "ok    %-55s %6.1f s\n", e.Package, e.Elapsed)
	default:
		fmt.Fprintf(s.out, "FAIL  %-55s %6.1f s\n", e.Package, e.Elapsed)
		if s.failedIn[e.Package] {
			return
		}
		// It did not build, or ended outside a test: what tests wrote says why.
		s.broken = append(s.broken, e.Package)
		for key, output := range s.output {
			if key.pkg == e.Package {
				fmt.Fprint(s.out, strings.Join(output, ""))
			}
		}
	}
}

// print writes the end and reports whether all is well.
func (s *summary) print() bool {
	fmt.Fprintln(s.out)
	for _, p := range slices.Sorted(maps.Keys(s.parts)) {
		fmt.Fprintf(s.out, "part: %s\n", p)
	}
	for _, k := range slices.Sorted(maps.Keys(s.skips)) {
		fmt.Fprintf(s.out, "skip: %s\n", k)
	}
	for _, p := range s.broken {
		fmt.Fprintf(s.out, "broken: %s\n", p)
	}
	failed := s.failed + len(s.broken)
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, failed, s.skipped)
	return failed == 0 && s.passed > 0
}
