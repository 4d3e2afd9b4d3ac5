package config

import (
	"fmt"
	"strings"
)

// Markdown is the manual's table of all keys.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| key | default | what it sets | environment variable | flag of `patchbay run` |\n|---|---|---|---|---|\n")
	for _, k := range Keys() {
		flag := "–"
		if k.Flag() != "" {
			flag = "`--" + k.Flag() + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` | %s |\n", k.Name, k.shownDefault(), k.Help, k.Env(), flag)
	}
	return b.String()
}

func (k Key) shownDefault() string {
	if k.shown != "" {
		return k.shown
	}
	switch d := k.Default.(type) {
	case []string:
		return "`[" + strings.Join(d, ", ") + "]`"
	case string:
		if d == "" {
			return "empty"
		}
	}
	return fmt.Sprintf("`%v`", k.Default)
}
