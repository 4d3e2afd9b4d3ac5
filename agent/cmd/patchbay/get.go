package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"go.patchbay.dev/plugins/admin/adminpb"
)

func newGet(a *app) *cobra.Command {
	var output string
	var watch bool
	var names []string
	for _, k := range listings {
		names = append(names, k.name)
	}
	cmd := &cobra.Command{
		Use:   "get KIND [NAME]",
		Short: "List " + strings.Join(names, ", "),
		Long: `Get lists objects of one kind: ` + strings.Join(names, ", ") + `. With -w it goes on with
every change. Root of the node sees all, a workload its own connections.`,
		Example: `  patchbay get crossconnects -o wide
  patchbay get endpoints -w`,
		ValidArgs: names,
		Args:      cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := kindOf(args[0], names)
			if err != nil {
				return err
			}
			in := &adminpb.ListRequest{Kind: kind, Watch: watch}
			if len(args) == 2 {
				in.Name = args[1]
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			err = a.admin(func(c adminpb.AdminClient) error {
				return a.get(ctx, c, in, newPrinter(a.out, output, in), "get "+kind)
			})
			if ctx.Err() != nil {
				return nil
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on with every change until interrupted")
	addOutput(cmd, &output, asTable, asWide, asJSON, asYAML)
	return cmd
}

// get reads the list and, while it lasts, its changes; what begins its errors.
func (a *app) get(ctx context.Context, c adminpb.AdminClient, in *adminpb.ListRequest, p *printer, what string) error {
	if !in.Watch {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	stream, err := c.List(ctx, in)
	if err != nil {
		return a.explained(err, "%s", what)
	}
	for {
		e, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return a.explained(err, "%s", what)
		}
		if err := p.event(e); err != nil {
			return err
		}
		if p.synced && in.Name != "" && p.count == 0 && !in.Watch {
			return fmt.Errorf("%s: %s %q is not there; list them with: patchbay get %s", what, singular(in.Kind), in.Name, in.Kind)
		}
	}
}

// printer prints a list and then each change.
type printer struct {
	out    io.Writer
	form   string
	kind   listing
	text   func(io.Writer, *adminpb.Object) // of asText
	single bool                             // one object is asked for by name
	watch  bool
	synced bool
	count  int
	list   []*adminpb.Object // until it is synced
}

func newPrinter(out io.Writer, form string, in *adminpb.ListRequest) *printer {
	i := slices.IndexFunc(listings, func(l listing) bool { return l.name == in.Kind })
	return &printer{out: out, kind: listings[i], form: form, single: in.Name != "", watch: in.Watch}
}

func (p *printer) event(e *adminpb.ListEvent) error {
	switch {
	case e.Synced:
		p.synced = true
		return p.flush()
	case !p.synced:
		p.count++
		p.list = append(p.list, e.Object)
		return nil
	case p.form == asTable || p.form == asWide:
		t := newTable(p.out)
		cells := p.kind.row(e.Object, p.form == asWide)
		if e.Deleted {
			cells = append(cells[:1], "deleted")
		}
		row(t, cells...)
		return t.Flush()
	}
	return p.change(e)
}

// flush prints what was there when the list began.
func (p *printer) flush() error {
	if p.form == asText {
		for _, o := range p.list {
			p.text(p.out, o)
		}
		return nil
	}
	if p.form == asTable || p.form == asWide {
		if len(p.list) == 0 && !p.watch {
			if !p.single {
				fmt.Fprintf(p.out, "no %s\n", p.kind.name)
			}
			return nil
		}
		t := newTable(p.out)
		row(t, p.kind.headings(p.form == asWide)...)
		for _, o := range p.list {
			row(t, p.kind.row(o, p.form == asWide)...)
		}
		return t.Flush()
	}
	all := []json.RawMessage{}
	for _, o := range p.list {
		data, err := object(inner(o))
		if err != nil {
			return err
		}
		if p.single || p.watch {
			if err := printValue(p.out, p.form, data); err != nil {
				return err
			}
		}
		all = append(all, data)
	}
	if p.single || p.watch {
		return nil
	}
	return printValue(p.out, p.form, all)
}

// change prints one change as an object of its own; what is gone has "deleted": true.
func (p *printer) change(e *adminpb.ListEvent) error {
	data, err := object(inner(e.Object))
	if err != nil {
		return err
	}
	if !e.Deleted {
		return printValue(p.out, p.form, data)
	}
	return printValue(p.out, p.form, map[string]any{"deleted": true, "object": data})
}
