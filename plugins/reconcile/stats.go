package reconcile

// Stats yields how many values of each kind are in each state. Kinds with a descriptor
// are yielded with every state but Gone, zeros included.
func (e *Engine) Stats(yield func(kind string, s State, n int)) {
	type row struct {
		kind  string
		all   bool
		count [Gone]int
	}
	var rows []row
	e.mu.Lock()
	for name, k := range e.kinds {
		rows = append(rows, row{name, k.descriptor != nil, k.count})
	}
	e.mu.Unlock()
	for _, r := range rows {
		for s, n := range r.count {
			if n > 0 || r.all {
				yield(r.kind, State(s), n)
			}
		}
	}
}

// Retries yields how often something of each kind has been tried again after a failure
// since New, retrievals included.
func (e *Engine) Retries(yield func(kind string, n uint64)) {
	counts := map[string]uint64{}
	e.mu.Lock()
	for name, k := range e.registry {
		counts[name] = k.retries
	}
	e.mu.Unlock()
	for name, n := range counts {
		yield(name, n)
	}
}
