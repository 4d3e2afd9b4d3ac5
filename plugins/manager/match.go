package manager

import (
	"maps"
	"slices"
	"strings"
	"text/template"

	"go.patchbay.dev/models"
)

// choose selects the endpoints that serve a client of a network service, as NSM's
// registries do: the first match whose source selector is a subset of the client's labels
// decides; its routes select endpoints by their labels for this service. Without matches
// all endpoints are equal.
func choose(s *models.Service, client map[string]string, all []*models.Endpoint) []*models.Endpoint {
	if len(s.GetMatches()) == 0 {
		return all
	}
	for _, match := range s.Matches {
		if !subset(client, match.SourceSelector, client) {
			continue
		}
		var chosen []*models.Endpoint
		for _, route := range match.Routes {
			for _, e := range all {
				if subset(e.GetLabels()[s.Name].GetLabels(), route.DestinationSelector, client) && !slices.Contains(chosen, e) {
					chosen = append(chosen, e)
				}
			}
		}
		switch {
		case len(chosen) > 0:
			return chosen
		case match.FallThrough:
			continue
		case match.Metadata != nil && len(match.Routes) == 0:
			return all
		}
		return nil
	}
	return nil
}

// subset reports whether labels hold everything that the selector asks for. A selector's
// value may be a Go template over the client's labels: "{{.app}}".
func subset(labels, selector, client map[string]string) bool {
	for k, want := range selector {
		if got, ok := labels[k]; !ok || got != want && got != expand(want, client) {
			return false
		}
	}
	return true
}

func expand(text string, client map[string]string) string {
	if !strings.Contains(text, "{{") {
		return text
	}
	t, err := template.New("selector").Parse(text)
	if err != nil {
		return text
	}
	var b strings.Builder
	if err := t.Execute(&b, client); err != nil {
		return text
	}
	return b.String()
}

// candidates gives the endpoints to ask for a connection, in order: the one it has, then
// the others round robin; an endpoint that the client wants to leave comes last.
func (m *Manager) candidates(service string, labels map[string]string, pinned, current string, leave bool) ([]*models.Endpoint, error) {
	s, all := m.registry.service(service)
	if s == nil && len(all) == 0 {
		return nil, errUnknownService(service, m.registry.serviceNames())
	}
	if pinned != "" {
		i := slices.IndexFunc(all, func(e *models.Endpoint) bool { return e.Name == pinned })
		if i < 0 {
			return nil, errNoEndpoint(service, "the endpoint "+pinned+" that the connection names is not registered")
		}
		if e := all[i]; !m.alive(e) && e.Name != current {
			return nil, errNoEndpoint(service, "node "+e.Node+" of the endpoint "+pinned+" that the connection names is gone")
		}
		return all[i : i+1], nil
	}
	if len(all) == 0 {
		return nil, errNoEndpoint(service, "none is registered")
	}
	chosen := choose(s, labels, all)
	if len(chosen) == 0 {
		return nil, errNoEndpoint(service, "none of the "+plural(len(all), "registered endpoint")+" matches the client's labels "+labelText(labels))
	}
	if chosen = m.living(chosen, current); len(chosen) == 0 {
		return nil, errNoEndpoint(service, "those that match are on nodes that are gone")
	}
	chosen = m.rotate(service, chosen)
	if i := slices.IndexFunc(chosen, func(e *models.Endpoint) bool { return e.Name == current }); i >= 0 {
		e := chosen[i]
		chosen = slices.Delete(slices.Clone(chosen), i, i+1)
		if leave {
			chosen = append(chosen, e)
		} else {
			chosen = slices.Insert(chosen, 0, e)
		}
	}
	return chosen, nil
}

// living leaves out endpoints whose node is gone; the one that a connection has may be on
// a node whose agent restarts.
func (m *Manager) living(list []*models.Endpoint, current string) []*models.Endpoint {
	gone := func(e *models.Endpoint) bool { return e.Name != current && !m.alive(e) }
	if !slices.ContainsFunc(list, gone) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), gone)
}

// rotate takes turns among equals.
func (m *Manager) rotate(service string, list []*models.Endpoint) []*models.Endpoint {
	m.mu.Lock()
	turn := m.turn[service] % len(list)
	m.turn[service] = turn + 1
	m.mu.Unlock()
	return slices.Concat(list[turn:], list[:turn])
}

func labelText(labels map[string]string) string {
	if len(labels) == 0 {
		return "(it has none)"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}
