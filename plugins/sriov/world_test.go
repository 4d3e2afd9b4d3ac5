package sriov

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/sriov/sriovtest"
)

// tokens of a device plugin that keeps no secret.
type tokens map[string]string

func (t tokens) Device(token string) (pool, id string, err error) {
	id, ok := t[token]
	if !ok {
		return "", "", errors.New("the token was not handed out on this node")
	}
	return "example.com/radio", id, nil
}

func (tokens) Counts(pool string) bool { return pool == "example.com/counted" }

// start gives a plugin on a machine.
func start(t testing.TB, m *sriovtest.Machine, pools ...Pool) *Plugin {
	t.Helper()
	p, err := New(Options{
		Config: Config{Sysfs: m.Root, RunDir: t.TempDir(), Pools: pools}, Kernel: m, Write: m.Write,
		Tokens: tokens{"T1": "0000:01:10.0", "T2": "0000:01:10.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.vfio = t.TempDir()
	p.Look()
	return p
}

var radio = Pool{Name: "example.com/radio", PF: "ens1"}

// record is a cross-connect whose ends have these functions.
func record(id, client, endpoint string) *models.CrossConnect {
	end := func(pci string) *models.Attachment {
		return &models.Attachment{Mechanism: &models.Mechanism{Type: "KERNEL", Parameters: map[string]string{ParamPCI: pci}}}
	}
	return &models.CrossConnect{Id: id, Client: end(client), Endpoint: end(endpoint)}
}

func claim(p *Plugin, owner string, w Want) string {
	d, err := p.Claim(context.Background(), owner, w)
	if err != nil {
		return err.Error()
	}
	return d.ID
}

func ids(list []Device) (all []string) {
	for _, d := range list {
		all = append(all, fmt.Sprintf("%s %s", d.Pool, d.ID))
	}
	return all
}
