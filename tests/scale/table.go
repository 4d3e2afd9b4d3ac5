package main

import (
	"fmt"
	"io"
)

// table is what was found out, as it is.
type table struct{ w io.Writer }

func (t table) row(what, format string, args ...any) {
	fmt.Fprintf(t.w, "%-60s %s\n", what, fmt.Sprintf(format, args...))
}
