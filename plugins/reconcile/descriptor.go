package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Value is something wanted: a key of the form kind/rest, where the kind names the
// descriptor, and a spec of that descriptor's type. The engine keeps the spec and
// never changes it; nor may the caller.
type Value struct {
	Key  string
	Spec any
}

// ErrRecreate is returned by Update when a change cannot be made in place, or when what
// should be changed is not there. The engine then deletes the value, after all that
// depends on it, and creates it anew.
var ErrRecreate = errors.New("must be recreated")

// Descriptor brings one kind of value into being. It is called by many goroutines at
// once, but never twice at once for one key. The context of Create, Update and Delete
// is never cancelled, so that Stop tears nothing in two: a descriptor bounds its calls.
//
// What is there when a method is called:
//
//   - Create: nothing; or, after a failed Create or Delete of an equal spec, after Lost
//     and after a fact came back, anything between nothing and all of it. Whatever
//     stands on it then is created again afterwards.
//   - Update: old; or, after a failed Update with equal arguments, anything between
//     old and new. Values that depend on it stay, and may be worked on meanwhile.
//   - Delete: anything between nothing and spec, and nothing that depends on it. After
//     a failed Update it is called for new, then for old.
//
// So a descriptor need not search for what an attempt with another spec may have left:
// when an attempt failed and something else is wanted, the engine deletes what was
// tried before it goes on. Every method may be called again after it succeeded, too.
type Descriptor[S any] interface {
	// Create makes the value, or finishes and mends what is there of it. Its
	// dependencies are applied.
	Create(ctx context.Context, key string, spec S) error
	// Update changes the value in place, or returns ErrRecreate before it touched
	// anything. The dependencies of new are applied.
	Update(ctx context.Context, key string, old, new S) error
	// Delete removes the value. That it is not there, or that what it depended on is
	// not there any more, is no error.
	Delete(ctx context.Context, key string, spec S) error
	// Retrieve returns everything of this kind that exists and is ours, also what is
	// there only in part, each key once. What is wanted of the kind is a hint for those
	// who cannot list. An error says that nothing is known; nothing is deleted because of it.
	Retrieve(ctx context.Context, want iter.Seq2[string, S]) ([]Found[S], error)
	// Dependencies returns the keys of the values and facts that must be there first.
	// It looks at nothing but its arguments.
	Dependencies(key string, spec S) []string
	// Equal reports whether what was found or applied needs no change to be what is
	// wanted. It looks at nothing but its arguments.
	Equal(found, want S) bool
}

// Found is a value that exists.
type Found[S any] struct {
	Key  string
	Spec S
}

// Register makes d the descriptor of a kind. It is called before the first Apply; a kind
// that is registered twice, as descriptor or as fact source, is a programming error and panics.
func Register[S any](e *Engine, kind string, d Descriptor[S]) {
	e.register(kind).descriptor = typed[S]{d}
}

// descriptor is a Descriptor without its type. Specs have passed check.
type descriptor interface {
	check(spec any) error
	create(ctx context.Context, key string, spec any) error
	update(ctx context.Context, key string, old, new any) error
	delete(ctx context.Context, key string, spec any) error
	retrieve(ctx context.Context, want iter.Seq2[string, any]) ([]found, error)
	dependencies(key string, spec any) []string
	equal(found, want any) bool
}

// found is a Found without its type, and what the engine made of it.
type found struct {
	key   string
	spec  any
	needs []string // dependencies of spec

	v    *value // nil: not known before
	turn uint64 // of what was wanted then; 0: nothing
	same bool   // that was what was found
}

type typed[S any] struct{ d Descriptor[S] }

func (t typed[S]) check(spec any) error {
	if _, ok := spec.(S); !ok {
		return fmt.Errorf("the spec is a %T, not a %T", spec, *new(S))
	}
	return nil
}

func (t typed[S]) create(ctx context.Context, key string, spec any) error {
	return t.d.Create(ctx, key, spec.(S))
}

func (t typed[S]) update(ctx context.Context, key string, old, new any) error {
	return t.d.Update(ctx, key, old.(S), new.(S))
}

func (t typed[S]) delete(ctx context.Context, key string, spec any) error {
	return t.d.Delete(ctx, key, spec.(S))
}

func (t typed[S]) dependencies(key string, spec any) []string {
	return t.d.Dependencies(key, spec.(S))
}

func (t typed[S]) equal(found, want any) bool { return t.d.Equal(found.(S), want.(S)) }

func (t typed[S]) retrieve(ctx context.Context, want iter.Seq2[string, any]) ([]found, error) {
	all, err := t.d.Retrieve(ctx, func(yield func(string, S) bool) {
		for key, spec := range want {
			if !yield(key, spec.(S)) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]found, len(all))
	for i, f := range all {
		out[i] = found{key: f.Key, spec: f.Spec}
	}
	return out, nil
}

// kindOf returns the part of a key before the first slash.
func kindOf(key string) string {
	kind, _, _ := strings.Cut(key, "/")
	return kind
}
