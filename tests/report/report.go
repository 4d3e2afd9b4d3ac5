// Package report tells the summary that `make test` prints at its end which real parts
// the tests ran against and which were missing. It writes through the test itself, so
// nothing has to be set up, and a cached result is reported as well.
package report

import "testing"

// Attribute is the key of the test attribute (testing.T.Attr) that holds a real part; a
// module that cannot import this package sets it itself.
const Attribute = "patchbay-part"

// Part says that t runs against a real part, for instance ("etcd", "3.7.0, embedded").
func Part(t testing.TB, name, version string) {
	t.Helper()
	t.Attr(Attribute, name+" "+version)
}

// Skip ends t because a part is not here; why says where it was looked for. Every skip is
// in the summary, by t.Skip too: this only makes them read alike.
func Skip(t testing.TB, part, why string) {
	t.Helper()
	t.Skipf("needs %s: %s", part, why)
}
