package vppapi

import (
	"context"
	"errors"
	"fmt"

	"go.fd.io/govpp/binapi/dev"
)

// A device is a PCI function that VPP drives by itself (VPP: src/vnet/dev, dev.api). There is no list of them: what
// is to be detached must be remembered by its number.

// Device is VPP's number of a device, which means nothing after VPP has been restarted.
type Device uint32

// Refusals of the device API, which has numbers of its own (VPP: src/vnet/dev/errors.h).
var (
	// ErrDeviceInUse: VPP has the device already.
	ErrDeviceInUse = errors.New("VPP has the device already")
	// ErrNoDriver: VPP has no driver for the device.
	ErrNoDriver = errors.New("VPP has no driver for the device")
)

// MaxDeviceName is the longest name of a device's interface in bytes (string intf_name[32], with its final zero).
const MaxDeviceName = 31

// AttachDevice has VPP drive a PCI function, which vfio-pci has. The error wraps ErrDeviceInUse or
// ErrNoDriver, where it is one of them.
func (c *Client) AttachDevice(ctx context.Context, pci string) (Device, error) {
	reply := &dev.DevAttachReply{}
	err := deviceError(c.call(ctx, one(&dev.DevAttach{DeviceID: "pci/" + pci}, reply)), reply.ErrorString)
	return Device(reply.DevIndex), err
}

// CreateDevicePort makes the interface of a device's only port.
func (c *Client) CreateDevicePort(ctx context.Context, d Device, name string) (Index, error) {
	if len(name) > MaxDeviceName {
		return 0, fmt.Errorf("interface %q of a device: the name has %d bytes, VPP takes %d", name, len(name), MaxDeviceName)
	}
	reply := &dev.DevCreatePortIfReply{}
	err := deviceError(c.call(ctx, one(&dev.DevCreatePortIf{DevIndex: uint32(d), IntfName: name}, reply)), reply.ErrorString)
	return Index(reply.SwIfIndex), err
}

// DetachDevice has VPP leave a device, and its interface with it. One that VPP does not have is no error.
func (c *Client) DetachDevice(ctx context.Context, d Device, index Index) error {
	reply := &dev.DevDetachReply{}
	err := c.call(ctx, one(&dev.DevDetach{DevIndex: uint32(d)}, reply, devNotFound).after(func() { c.inv.gone(index) }))
	return deviceError(err, reply.ErrorString)
}

// Numbers of the device API's refusals: minus the place in the list of errors.h, from 1.
const (
	devInUse    Error = -2
	devNoDriver Error = -8
	devNotFound Error = -20
)

// deviceError says in the device API's words what VPP refused: in those of the rest of the API, its numbers mean other things.
func deviceError(err error, text string) error {
	var code Error
	switch {
	case !errors.As(err, &code):
		return err
	case code == devInUse:
		return ErrDeviceInUse
	case code == devNoDriver:
		return ErrNoDriver
	}
	return fmt.Errorf("VPP's devices: %s (%d)", text, int32(code))
}
