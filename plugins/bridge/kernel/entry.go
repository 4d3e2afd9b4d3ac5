package kernel

import (
	"context"
	"fmt"
	"iter"

	"go.patchbay.dev/plugins/reconcile"
)

// entries is the descriptor of what is set at an interface of ours and goes with it: all of S
// is in the key, or can be set over what was there.
type entries[S comparable] struct {
	*Dataplane
	what  string // begins errors
	at    func(spec S) string
	set   func(index int, spec S) error
	unset func(index int, spec S) error
	find  func() ([]reconcile.Found[S], error)
}

// Dependencies: the interface.
func (d entries[S]) Dependencies(_ string, spec S) []string { return []string{d.at(spec)} }

// Equal compares by content.
func (d entries[S]) Equal(found, want S) bool { return found == want }

// Create sets it, whatever was there before.
func (d entries[S]) Create(_ context.Context, _ string, spec S) error {
	index, err := d.index(d.at(spec))
	if err == nil {
		err = d.set(index, spec)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.what, err)
	}
	return nil
}

// Update sets it anew.
func (d entries[S]) Update(ctx context.Context, key string, _, new S) error {
	return d.Create(ctx, key, new)
}

// Delete takes it away. Without the interface there is none.
func (d entries[S]) Delete(_ context.Context, _ string, spec S) error {
	index, err := d.index(d.at(spec))
	if err != nil {
		return nil
	}
	if err := d.unset(index, spec); err != nil {
		return fmt.Errorf("%s: %w", d.what, err)
	}
	return nil
}

// Retrieve finds all at interfaces of ours.
func (d entries[S]) Retrieve(context.Context, iter.Seq2[string, S]) ([]reconcile.Found[S], error) {
	return d.find()
}
