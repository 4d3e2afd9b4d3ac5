package vppapi_test

import (
	"errors"
	"strings"
	"testing"

	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
)

// The real VPP has no card that it could drive in a test; what it says of that is the contract.
func devicesRefused(t *testing.T, e *env) {
	c := e.client(t)
	if why := c.Missing(vppapi.DevPlugin); why != "" {
		t.Fatal(why)
	}
	if _, err := c.AttachDevice(t.Context(), "ffff:ff:1f.7"); err == nil || !strings.Contains(err.Error(), "VPP's devices: ") || errors.Is(err, vppapi.ErrNoDriver) {
		t.Errorf("attach what is not there: %v", err)
	}
	if _, err := c.CreateDevicePort(t.Context(), 4711, "vf0"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("a port of no device: %v", err)
	}
	if _, err := c.CreateDevicePort(t.Context(), 0, strings.Repeat("x", 32)); err == nil {
		t.Error("a name that is too long is taken")
	}
	ok(t, "detach what is not there", c.DetachDevice(t.Context(), 4711, 0))
}

// What the fake does with a card that it has.
func TestDeviceOfTheFake(t *testing.T) {
	c := onFake(t, vppfake.WithDevice("0000:01:10.0", true), vppfake.WithDevice("0000:01:10.1", false)).client(t)
	if _, err := c.AttachDevice(t.Context(), "0000:01:10.1"); !errors.Is(err, vppapi.ErrNoDriver) {
		t.Error(err)
	}
	d, err := c.AttachDevice(t.Context(), "0000:01:10.0")
	ok(t, "attach", err)
	if _, err := c.AttachDevice(t.Context(), "0000:01:10.0"); !errors.Is(err, vppapi.ErrDeviceInUse) {
		t.Error(err)
	}
	i, err := c.CreateDevicePort(t.Context(), d, "vf0")
	ok(t, "create port", err)
	ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: "patchbay:c1:endpoint", MTU: 1500}))
	if got, there := c.Tagged("patchbay:c1:endpoint"); !there || got.Name != "vf0" || !got.AdminUp || !got.LinkUp {
		t.Errorf("%+v, %v", got, there)
	}
	for range 2 {
		ok(t, "detach", c.DetachDevice(t.Context(), d, i))
	}
	if _, there := c.Tagged("patchbay:c1:endpoint"); there {
		t.Error("its interface is still there")
	}
}
