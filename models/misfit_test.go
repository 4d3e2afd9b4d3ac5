package models

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
)

func TestJSONThatDoesNotFitNamesTheField(t *testing.T) {
	for _, c := range []struct {
		in   string
		into proto.Message
		want string
	}{
		{`{"id":"c1","mtuu":1}`, &CrossConnect{}, `mtuu: is not known; remove it or correct its name`},
		{`{"client":{"mechanism":{"tipe":"KERNEL"}}}`, &CrossConnect{}, `client.mechanism.tipe: is not known; remove it or correct its name`},
		{`{"client":{},"endpoint":{"routes":[{},{"prefixx":""}]}}`, &CrossConnect{}, `endpoint.routes[1].prefixx: is not known; remove it or correct its name`},
		{"{\n \"networkService\": \"ä\", \"mtu\": \"many\"}", &CrossConnect{}, `mtu: invalid value for uint32 field mtu: "many"`},
		{`{"client":{"mechanism":{"parameters":{"name":"a","netns":5}}}}`, &CrossConnect{},
			`client.mechanism.parameters.netns: invalid value for string field value: 5; write text, in quotes`},
		{`{"client":{"addresses":"10.0.0.1/24"}}`, &CrossConnect{}, `client.addresses: unexpected token "10.0.0.1/24"; write a list: […]`},
		{`{"client":{"addresses":[[]]}}`, &CrossConnect{}, `client.addresses[0]: invalid value for string field addresses: [; write text, in quotes`},
		{`{"client":{"addresses":[]},"endpoint":{"mechanism":[{}]}}`, &CrossConnect{}, `endpoint.mechanism: unexpected token [; write an object: {…}`},
		{`{"client":{"mechanism":{"parameters":"netns"}}}`, &CrossConnect{}, `client.mechanism.parameters: unexpected token "netns"; write an object: {…}`},
		{`{"request":{"expires":{}}}`, &CrossConnect{}, `request.expires: unexpected token {`},
		{`{"matches":[{"routes":[{}],"fallThrough":"yes"}]}`, &Service{}, `matches[0].fallThrough: invalid value for bool field fallThrough: "yes"`},
		{`{"id":"c1","id":"c2"}`, &CrossConnect{}, `id: duplicate field "id"; write text, in quotes`},
	} {
		err := Unmarshal([]byte(c.in), c.into)
		var field *FieldError
		if !errors.As(err, &field) || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.in, err, c.want)
		}
	}
	for in, want := range map[string]string{
		``:            `JSON: syntax error (line 1:1): unexpected token`,
		`{"id":"c1"`:  `JSON: unexpected EOF`,
		`["id"]`:      `JSON: syntax error (line 1:1): unexpected token [`,
		`{"id":"c1",`: `JSON: unexpected EOF`,
	} {
		if err := Unmarshal([]byte(in), &CrossConnect{}); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}
