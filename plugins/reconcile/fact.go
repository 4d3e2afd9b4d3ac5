package reconcile

// FactSource watches facts of the outside world that values may depend on, such as a
// namespace that exists. A fact has a key of the form kind/rest like a value.
type FactSource interface {
	// Watch starts watching and returns whether the fact is there now; every change
	// after that comes by Engine.Observe. It is called when the first value depends on the fact.
	Watch(key string) (present bool)
	// Unwatch stops watching. It is called when no value depends on the fact any more.
	Unwatch(key string)
}

// Facts makes s the source of a kind of facts, of which an operator calls one words: "the
// network namespace". It is called before the first Apply; a kind that is registered twice is a
// programming error and panics.
func (e *Engine) Facts(kind, words string, s FactSource) {
	k := e.register(kind)
	k.facts, k.words = s, words
}

// Observe says that a fact has come or gone. What depends on a fact that has gone is
// deleted, and created again when it comes back; when it is back at once, what was not
// deleted yet is created again all the same. A fact that is not watched is ignored.
func (e *Engine) Observe(key string, present bool) {
	e.mu.Lock()
	defer e.unlock()
	v := e.find(key)
	if v == nil || v.kind.facts == nil || !v.watched && !v.running {
		return
	}
	if v.running && v.step == watch {
		v.observed = true // newer than what Watch will return
	}
	v.there = present
	if !present {
		e.shake(v)
	}
	e.touch(v)
}
