package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	const passed = `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":1.5}
`
	for _, c := range []struct {
		name, in  string
		well      bool
		want, not []string
	}{
		{"a pass says one line a package and nothing of the test", `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: noise\n"}
` + passed, true, []string{"ok    p ", " 1.5 s\n", "\n1 passed, 0 failed, 0 skipped\n"}, []string{"noise"}},
		{"a failure is shown in full", `{"Action":"output","Package":"p","Test":"TestB","Output":"=== RUN   TestB\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:1: bad\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p"}
` + passed, false, []string{"b_test.go:1: bad\n", "FAIL  p ", "1 passed, 1 failed"}, []string{"=== RUN", "broken"}},
		{"real parts are listed once", `{"Action":"attr","Package":"p","Test":"TestA","Key":"patchbay-part","Value":"etcd 3.7.0"}
{"Action":"attr","Package":"q","Test":"TestQ","Key":"patchbay-part","Value":"etcd 3.7.0"}
{"Action":"attr","Package":"q","Test":"TestQ","Key":"other","Value":"x"}
` + passed, true, []string{"\npart: etcd 3.7.0\n1 passed"}, []string{"x\n"}},
		{"a skip says why", `{"Action":"output","Package":"p","Test":"TestV","Output":"    v_test.go:7: needs VPP: not in PATH\n"}
{"Action":"output","Package":"p","Test":"TestV","Output":"--- SKIP: TestV (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestV"}
` + passed, true, []string{"skip: TestV: needs VPP: not in PATH\n", "1 passed, 0 failed, 1 skipped"}, nil},
		{"a skip without a reason", `{"Action":"skip","Package":"p","Test":"TestV"}
` + passed, true, []string{"skip: TestV: no reason given\n"}, nil},
		{"a package without tests says nothing", `{"Action":"skip","Package":"empty"}
` + passed, true, nil, []string{"empty"}},
		{"what does not build has failed", `{"ImportPath":"p","Action":"build-output","Output":"x.go:1: undefined: y\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
`, false, []string{"undefined: y", "broken: p\n", "0 passed, 1 failed"}, nil},
		{"what ends outside a test has failed", `{"Action":"output","Package":"p","Output":"DATA RACE\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}
`, false, []string{"DATA RACE", "broken: p\n", "1 passed, 1 failed"}, nil},
		{"no test at all is no success", "", false, []string{"0 passed, 0 failed"}, nil},
		{"what is not of go test is shown", "make: hello\n{not json\n" + passed, true, []string{"make: hello\n{not json\n"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			s := newSummary(&out)
			if err := s.read(strings.NewReader(c.in)); err != nil {
				t.Fatal(err)
			}
			if well := s.print(); well != c.well {
				t.Errorf("well: %v, want %v", well, c.well)
			}
			for _, w := range c.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("output does not say %q:\n%s", w, out.String())
				}
			}
			for _, w := range c.not {
				if strings.Contains(out.String(), w) {
					t.Errorf("output says %q:\n%s", w, out.String())
				}
			}
		})
	}
}
