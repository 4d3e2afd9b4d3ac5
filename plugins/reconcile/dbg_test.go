package reconcile

import "fmt"

func (s *story) dump() {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	for _, k := range s.engine.kinds {
		fmt.Printf("kind %s seen %v paused %d parked %d running %d err %v retry %v\n", k.name, k.seen, k.paused, len(k.parked), k.running, k.err, k.retry)
		for _, v := range k.values {
			on := ""
			if v.wait.on != nil {
				on = v.wait.on.key
			}
			var needs []string
			if v.owner != nil {
				for _, d := range v.owner.needs {
					needs = append(needs, d.key)
				}
			}
			fmt.Printf("  %s wait %s outlook %d wanted %v is %d fit %d spec %v needs %v step %d state %v leaving %v recreate %v running %v queued %v err %v timer %v holders %d watched %v there %v\n", v.key, on, v.outlook, v.wanted(), v.is, v.fit, v.spec, needs, v.step, v.state, v.leaving, v.recreate, v.running, v.queued, v.err, v.timer != nil, len(v.holders), v.watched, v.there)
		}
	}
}
