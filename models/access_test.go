package models

import (
	"errors"
	"testing"
)

func TestParseAccess(t *testing.T) {
	for _, c := range []struct {
		owner, mode string
		want        Access
		field       string // of the error
	}{
		{"", "", Access{7, 8, 0o600}, ""},
		{"1000:1001", "0660", Access{1000, 1001, 0o660}, ""},
		{"1000", "", Access{}, ParamOwner},
		{"-1:0", "", Access{}, ParamOwner},
		{"root:root", "", Access{}, ParamOwner},
		{"", "9", Access{}, ParamMode},
		{"", "1777", Access{}, ParamMode},
	} {
		got, err := ParseAccess(map[string]string{ParamOwner: c.owner, ParamMode: c.mode}, 7, 8)
		var field *FieldError
		switch {
		case c.field == "" && (err != nil || got != c.want):
			t.Errorf("%q %q: %v, %v; want %v", c.owner, c.mode, got, err, c.want)
		case c.field != "" && (!errors.As(err, &field) || field.Field != c.field):
			t.Errorf("%q %q: %v, want an error at %s", c.owner, c.mode, err, c.field)
		}
	}
}
