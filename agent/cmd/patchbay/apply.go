package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"go.patchbay.dev/plugins/admin/adminpb"
)

func newApply(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Write desired objects: cross-connects, durable requests, network services and bridges",
		Long: `Apply writes desired objects after they have been checked. The file is YAML or JSON; several
objects are separated by lines of ---. Each has a kind, CrossConnect, Connection (a durable
request), Service or Bridge, and the fields of that message as they are kept in etcd. All are read
before the first is written.`,
		Example: `  patchbay apply -f crossconnect.yaml
  echo '{kind: Service, name: firewall, payload: IP}' | patchbay apply -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage("no file is given; use -f FILE, or -f - for standard input")
			}
			return a.apply(cmd.Context(), file)
		},
	}
	cmd.Flags().StringVarP(&file, "filename", "f", "", "file with the objects, - for standard input")
	return cmd
}

// document is one object of a file.
type document struct {
	kind string // in small letters
	name string // as far as it has one, for messages
	data []byte // JSON without the kind
}

func (a *app) apply(ctx context.Context, file string) error {
	in := io.Reader(a.in)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		defer f.Close()
		in = f
	}
	content, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("apply %s: %w", file, err)
	}
	docs, err := parseDocuments(content)
	if err != nil {
		return fmt.Errorf("apply %s: %w", file, err)
	}
	return a.admin(func(c adminpb.AdminClient) error {
		for _, d := range docs {
			if err := a.applyOne(ctx, c, d); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *app) applyOne(ctx context.Context, c adminpb.AdminClient, d document) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := c.Apply(ctx, &adminpb.ApplyRequest{Kind: d.kind, Object: d.data})
	if err != nil {
		return a.explained(err, "apply %s/%s", d.kind, d.name)
	}
	fmt.Fprintf(a.out, "%s/%s %s\n", d.kind, out.GetName(), out.GetChange())
	return nil
}

var separator = regexp.MustCompile(`(?m)^---\s*$`)

// parseDocuments reads all objects of a file; one that is empty is left out.
func parseDocuments(content []byte) ([]document, error) {
	var docs []document
	for i, text := range separator.Split(string(content), -1) {
		data, err := yaml.YAMLToJSONStrict([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", i+1, err)
		}
		if bytes.Equal(data, []byte("null")) {
			continue
		}
		d, err := parseDocument(data)
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", i+1, err)
		}
		docs = append(docs, d)
	}
	if len(docs) == 0 {
		return nil, errors.New("it holds no object")
	}
	return docs, nil
}

// kinds that can be applied, by what users write in small letters.
var kinds = []string{"crossconnect", "connection", "service", "bridge"}

func parseDocument(data []byte) (document, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return document{}, errors.New("is no object; write fields such as kind: CrossConnect")
	}
	var kind string
	if err := json.Unmarshal(fields["kind"], &kind); err != nil || kind == "" {
		return document{}, errors.New("kind: is missing; write kind: CrossConnect, kind: Connection, kind: Service or kind: Bridge")
	}
	d := document{kind: strings.ToLower(kind)}
	if !slices.Contains(kinds, d.kind) {
		return document{}, fmt.Errorf("kind: %q is not known; use CrossConnect, Connection, Service or Bridge", kind)
	}
	for _, field := range []string{"id", "name"} {
		var name string
		if json.Unmarshal(fields[field], &name) == nil && d.name == "" {
			d.name = name
		}
	}
	delete(fields, "kind")
	var err error
	d.data, err = json.Marshal(fields)
	return d, err
}
