package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// Forms of output.
const (
	asText  = "text"
	asTable = "table"
	asWide  = "wide"
	asJSON  = "json"
	asYAML  = "yaml"
)

// choice is a flag that takes one of several words.
type choice struct {
	value *string
	words []string
}

func (c choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

func (c choice) Type() string { return strings.Join(c.words, "|") }

func (c choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("use one of %s", strings.Join(c.words, ", "))
	}
	*c.value = s
	return nil
}

// addOutput adds -o; the first form is the default.
func addOutput(cmd *cobra.Command, value *string, forms ...string) {
	*value = forms[0]
	cmd.Flags().VarP(choice{value, forms}, "output", "o", "form of the output")
	// The flag exists, and is registered once: there is nothing else that could fail.
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp)))
}

// object is a message in the form that JSON of it has; protojson varies its spacing.
func object(m proto.Message) (json.RawMessage, error) {
	data, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = json.Compact(&b, data)
	return b.Bytes(), err
}

// printObject prints a message as JSON or YAML.
func printObject(w io.Writer, form string, m proto.Message) error {
	data, err := object(m)
	if err != nil {
		return err
	}
	return printValue(w, form, data)
}

// printValue prints what encoding/json can hold as JSON or YAML.
func printValue(w io.Writer, form string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if form == asYAML {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "---\n%s", data)
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}

// newTable gives a writer that aligns cells, which tabs end.
func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 8, 3, ' ', 0) }

// row writes one line of a table; an empty cell shows as a dash.
func row(w io.Writer, cells ...string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), " "))
}
