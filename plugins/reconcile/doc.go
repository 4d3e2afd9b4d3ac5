// Package reconcile is the engine that makes the world match what is wanted, and
// keeps it so. It knows nothing of networks: a value is a key and a spec, a
// Descriptor brings one kind of value into being, and the engine decides what is
// done when, in which order and how much of it at the same time.
//
// Three things drive it: what is wanted (Apply), what is there (Start, Resync,
// Lost) and facts of the outside world that values depend on (Observe). Each of
// them changes a few values of the graph; every value so touched is decided anew
// (decide.go), and what can be done is queued for the workers (work.go). So a
// change costs what it touches, whatever else exists.
//
// Two rules carry the order of things:
//
//   - A value is created or updated only while all that it needs is applied.
//   - A value is deleted only when nothing that depends on it is left.
//
// And one rule carries safety: from the start of an attempt until its success the
// engine takes nothing for granted about that value, and it never forgets a spec
// that was tried until it has been deleted or has succeeded.
package reconcile
