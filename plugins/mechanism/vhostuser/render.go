package vhostuser

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// VhostUser is the spec of one attachment. Values are compared with ==.
type VhostUser struct {
	Tag      string
	File     string // of the socket, in a directory of its own
	Client   bool   // VPP connects, the workload listens
	UID, GID int
	Mode     os.FileMode
	MAC      [6]byte // of VPP's end
	MTU      int     // bytes; 0: VPP's own
	IP       bool    // the payload is IP
	broken   bool    // found: not up
}

func keyOf(id string, side models.Side) string { return Kind + "/" + id + "/" + string(side) }

// fileOf is where the socket of one side is. It has a directory of its own, which belongs
// to the workload where that makes the socket.
func (m *Mechanism) fileOf(id string, side models.Side) string {
	path := filepath.Join(m.o.RunDir, id, dirName(side), socketName)
	if len(path) <= vppapi.MaxVhostPath {
		return path
	}
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(m.o.RunDir, "x-"+hex.EncodeToString(sum[:8]), dirName(side), socketName)
}

const socketName = "vhost.sock"

// dirName is the directory of one side's socket in the connection's.
func dirName(side models.Side) string {
	if side == models.ClientSide {
		return "vhost-client"
	}
	return "vhost"
}

// Attach renders one workload that is attached to VPP.
func (m *Mechanism) Attach(x *models.CrossConnect, side models.Side) (models.Port, []reconcile.Value, error) {
	at := x.At(side)
	p, err := parse(at.GetMechanism().GetParameters())
	if err != nil {
		return models.Port{}, nil, err
	}
	spec := VhostUser{
		Tag: models.Tag(x.GetId(), side), File: m.fileOf(x.GetId(), side), Client: p.server,
		UID: p.UID, GID: p.GID, Mode: p.Mode, MTU: int(x.GetMtu()), IP: x.GetPayload() == models.IP,
	}
	spec.MAC = models.ForwarderMAC(spec.Tag)
	if len(spec.File) > vppapi.MaxVhostPath {
		return models.Port{}, nil, field(string(side)+".mechanism.type", "%s: the socket's path %s has %d bytes, a socket's may have %d; configure a shorter vpp.run_dir",
			Type, spec.File, len(spec.File), vppapi.MaxVhostPath)
	}
	if asked := at.GetMechanism().GetParameters()[SocketFile]; asked != "" && asked != spec.File {
		return models.Port{}, nil, field(string(side)+".mechanism.parameters."+SocketFile, "%q cannot be had; the socket is %s: leave it out", asked, spec.File)
	}
	key := keyOf(x.GetId(), side)
	port := models.Port{Key: key, Tag: spec.Tag, Ethernet: true, MAC: guestMAC(x, side)}
	for _, s := range at.GetAddresses() {
		if a, err := netip.ParsePrefix(s); err == nil {
			port.Addresses = append(port.Addresses, a.Addr())
		}
	}
	return port, []reconcile.Value{{Key: key, Spec: spec}}, nil
}

// guestMAC is the address that the guest's device is to have: the record's, or one that
// is derived and that the workload is told.
func guestMAC(x *models.CrossConnect, side models.Side) [6]byte {
	if hw, err := net.ParseMAC(x.At(side).GetMac()); err == nil && len(hw) == 6 {
		return [6]byte(hw)
	}
	return models.DerivedMAC(models.Tag(x.GetId(), side))
}

// Hint says where the workload will find its socket, or is to make it.
func (m *Mechanism) Hint(id string, side models.Side, _ string) map[string]string {
	return map[string]string{SocketFile: m.fileOf(id, side)}
}

// Status says what one end of a cross-connect has become: its interface in VPP and
// whether the guest is connected to it. It is nil for an end whose parameters are not valid.
func (m *Mechanism) Status(x *models.CrossConnect, side models.Side) *models.AttachmentStatus {
	p, err := parse(x.At(side).GetMechanism().GetParameters())
	if err != nil {
		return nil
	}
	tag := models.Tag(x.GetId(), side)
	s := &models.AttachmentStatus{Mechanism: Type, Parameters: m.Hint(x.GetId(), side, "")}
	own, vpp := guestMAC(x, side), models.ForwarderMAC(tag)
	s.Parameters[MAC], s.Parameters[PeerMAC] = net.HardwareAddr(own[:]).String(), net.HardwareAddr(vpp[:]).String()
	s.Parameters[Server] = strconv.FormatBool(p.server)
	if i, ok := m.o.VPP.Tagged(tag); ok {
		s.Interface, s.LinkUp = i.Name, i.LinkUp
	}
	return s
}
