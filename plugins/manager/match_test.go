package manager

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

// endpointOf makes an endpoint of service "fw" with labels "k", "v", …
func endpointOf(name string, labels ...string) *models.Endpoint {
	e := &models.Endpoint{Name: name, Services: []string{"fw"}, Labels: map[string]*models.Labels{"fw": {Labels: map[string]string{}}}}
	for i := 0; i+1 < len(labels); i += 2 {
		e.Labels["fw"].Labels[labels[i]] = labels[i+1]
	}
	return e
}

func to(selector ...string) *models.Destination {
	d := &models.Destination{DestinationSelector: map[string]string{}}
	for i := 0; i+1 < len(selector); i += 2 {
		d.DestinationSelector[selector[i]] = selector[i+1]
	}
	return d
}

func TestMatchesChooseEndpoints(t *testing.T) {
	fw, vpn, any := endpointOf("fw", "app", "firewall"), endpointOf("vpn", "app", "vpn"), endpointOf("any")
	all := []*models.Endpoint{any, fw, vpn}
	from := func(k, v string) map[string]string { return map[string]string{k: v} }
	for name, c := range map[string]struct {
		client  map[string]string
		matches []*models.Match
		want    []string
	}{
		"no matches: all are equal": {nil, nil, []string{"any", "fw", "vpn"}},
		"the first match decides": {from("app", "firewall"), []*models.Match{
			{SourceSelector: from("app", "firewall"), Routes: []*models.Destination{to("app", "vpn")}},
			{Routes: []*models.Destination{to("app", "firewall")}}}, []string{"vpn"}},
		"an empty source selector takes everybody": {nil, []*models.Match{
			{SourceSelector: from("app", "firewall"), Routes: []*models.Destination{to("app", "vpn")}},
			{Routes: []*models.Destination{to("app", "firewall")}}}, []string{"fw"}},
		"nobody is selected and there is no way on": {from("app", "x"), []*models.Match{
			{SourceSelector: from("app", "x"), Routes: []*models.Destination{to("app", "none")}},
			{Routes: []*models.Destination{to()}}}, nil},
		"fall-through goes on": {from("app", "x"), []*models.Match{
			{SourceSelector: from("app", "x"), Routes: []*models.Destination{to("app", "none")}, FallThrough: true},
			{Routes: []*models.Destination{to("app", "vpn")}}}, []string{"vpn"}},
		"several routes, each endpoint once": {nil, []*models.Match{
			{Routes: []*models.Destination{to("app", "vpn"), to(), to("app", "firewall")}}}, []string{"vpn", "any", "fw"}},
		"a template over the client's labels": {from("next", "vpn"), []*models.Match{
			{Routes: []*models.Destination{to("app", "{{.next}}")}}}, []string{"vpn"}},
		"a template that is none is a plain value": {nil, []*models.Match{
			{Routes: []*models.Destination{to("app", "{{")}}}, nil},
		"metadata without routes takes every endpoint": {nil, []*models.Match{
			{Metadata: &models.Metadata{}}}, []string{"any", "fw", "vpn"}},
		"no match selects the client": {from("app", "y"), []*models.Match{
			{SourceSelector: from("app", "x"), Routes: []*models.Destination{to()}}}, nil},
		"an empty value is not an absent label": {nil, []*models.Match{
			{Routes: []*models.Destination{to("app", "")}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, e := range choose(&models.Service{Name: "fw", Matches: c.matches}, c.client, all) {
				got = append(got, e.Name)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("chosen %v, want %v", got, c.want)
			}
		})
	}
}

func TestEqualsTakeTurnsAndTheCurrentEndpointComesFirst(t *testing.T) {
	m := New(Options{Keys: models.NewKeys("/p", "n1")})
	for _, n := range []string{"a", "b", "c"} {
		m.registry.byService["fw"] = append(m.registry.byService["fw"], endpointOf(n))
	}
	order := func(current string, leave bool) string {
		list, err := m.candidates("fw", nil, "", current, leave)
		if err != nil {
			t.Fatal(err)
		}
		var s string
		for _, e := range list {
			s += e.Name
		}
		return s
	}
	for i, c := range []struct {
		current string
		leave   bool
		want    string
	}{{"", false, "abc"}, {"", false, "bca"}, {"", false, "cab"}, {"b", false, "bac"}, {"b", true, "cab"}} {
		if got := order(c.current, c.leave); got != c.want {
			t.Errorf("call %d: order %s, want %s", i, got, c.want)
		}
	}
	if list, err := m.candidates("fw", nil, "c", "", false); err != nil || len(list) != 1 || list[0].Name != "c" {
		t.Errorf("the endpoint that the client names: %v, %v", list, err)
	}
}

func TestARegistryRecordThatIsWrongKeepsWhatWas(t *testing.T) {
	keys := models.NewKeys("/p", "n1")
	d := newDirectory(keys)
	var log bytes.Buffer
	put := func(prefix, key, value string) {
		log.Reset()
		d.batch(prefix, store.Batch{Puts: []store.KV{{Key: key, Value: []byte(value)}}}, slog.New(slog.NewTextHandler(&log, nil)))
	}
	const service, endpoint = `{"name":"fw","payload":"IP"}`, `{"name":"fw-1","services":["fw"],"url":"unix:///fw"}`
	put(keys.Services(), keys.Service("fw"), service)
	put(keys.Endpoints(), keys.Endpoint("fw-1"), endpoint)
	for _, c := range []struct{ prefix, key, value, says string }{
		{keys.Services(), keys.Service("fw"), `{"name":"fw","payload":"X25"}`, "payload: "},
		{keys.Services(), keys.Service("fw"), `{"name":"vpn"}`, "name: "},
		{keys.Services(), keys.Service("vpn"), service, "name: "},
		{keys.Endpoints(), keys.Endpoint("fw-1"), `{"services":["fw"]}`, "url: "},
		{keys.Endpoints(), keys.Endpoint("fw-2"), endpoint, "name: "},
	} {
		put(c.prefix, c.key, c.value)
		if got := log.String(); !strings.Contains(got, c.says) || !strings.Contains(got, c.key) {
			t.Errorf("%s: the log does not name the key and %s: %s", c.value, c.says, got)
		}
		s, all := d.service("fw")
		if s.GetPayload() != "IP" || len(all) != 1 || all[0].Name != "fw-1" || !slices.Equal(d.serviceNames(), []string{"fw"}) {
			t.Errorf("after %s there are %v and %v", c.value, s, all)
		}
	}
}
