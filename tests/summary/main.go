// Command summary reads what `go test -json` writes, shows one line a package and
// everything of a test that failed, and ends with the real parts that the tests ran
// against, what was skipped and why, and the totals. Its exit status is 1 when a test or
// a package failed or none ran.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

func main() {
	s := newSummary(os.Stdout)
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		os.Exit(1)
	}
	if !s.print() {
		os.Exit(1)
	}
}

// read takes in lines until the end. One that is not JSON is shown as it is: another
// program than `go test` wrote it.
func (s *summary) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			s.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
