package main

import (
	"context"
	"fmt"
	"io"

	"go.patchbay.dev/plugins/admin/adminpb"
)

// describeDevice shows one virtual function.
func (a *app) describeDevice(ctx context.Context, id, output string) error {
	in := &adminpb.ListRequest{Kind: "devices", Name: id}
	return a.admin(func(c adminpb.AdminClient) error {
		p := newPrinter(a.out, output, in)
		p.text = deviceText
		return a.get(ctx, c, in, p, "describe device "+id)
	})
}

// deviceText writes a field a line.
func deviceText(w io.Writer, o *adminpb.Object) {
	d := o.GetDevice()
	field(w, 0, "ID", d.GetId())
	field(w, 0, "Pool", d.GetPool())
	field(w, 0, "Card", fmt.Sprintf("%s %s, index %d", d.GetPf(), d.GetCard(), d.GetVf()))
	field(w, 0, "NUMA node", known(d.Numa))
	field(w, 0, "IOMMU group", known(d.Group))
	field(w, 0, "Driver", d.GetDriver())
	field(w, 0, "State", deviceState(d))
	field(w, 0, "Reason", d.GetReason())
	if d.GetConnection() != "" {
		field(w, 0, "Connection", d.Connection+", the "+d.GetSide())
	}
	field(w, 0, "Given to a pod", since(d.GetGiven()))
}
