package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"go.patchbay.dev/agent/config"
)

// newReference prints the parts of docs/reference.md that the code knows.
func newReference(a *app) *cobra.Command {
	return &cobra.Command{
		Use:       "reference commands|configuration",
		Short:     "Print a part of the manual's reference as Markdown",
		Hidden:    true,
		ValidArgs: []string{"commands", "configuration"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		Run: func(cmd *cobra.Command, args []string) {
			if args[0] == "configuration" {
				fmt.Fprint(a.out, config.Markdown())
				return
			}
			commandReference(a.out, cmd.Root())
		},
	}
}

// commandReference writes a section for every command below one.
func commandReference(w io.Writer, above *cobra.Command) {
	for _, c := range above.Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		fmt.Fprintf(w, "### %s\n\n%s\n\n", c.CommandPath(), prose(c))
		fmt.Fprintf(w, "```\n%s\n", c.UseLine())
		if c.Example != "" {
			fmt.Fprintf(w, "\n%s\n", strings.TrimRight(dedent(c.Example), "\n"))
		}
		fmt.Fprint(w, "```\n\n")
		if c.Name() == "run" {
			fmt.Fprint(w, "Its flags are `--config FILE` and the keys of the configuration, below.\n\n")
			continue
		}
		if flags := c.LocalFlags().FlagUsages(); flags != "" {
			fmt.Fprintf(w, "```\n%s```\n\n", flags)
		}
		commandReference(w, c)
	}
}

func prose(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

func dedent(s string) string { return strings.ReplaceAll("\n"+s, "\n  ", "\n")[1:] }
