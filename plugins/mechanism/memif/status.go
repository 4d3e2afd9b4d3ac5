package memif

import (
	"cmp"
	"os"
	"path/filepath"
	"strconv"

	"go.patchbay.dev/models"
)

// Status says what one end of a cross-connect has become: its interface in VPP and
// whether the workload is connected to it. It is nil for an end whose parameters are not
// valid.
func (m *Mechanism) Status(x *models.CrossConnect, side models.Side) *models.AttachmentStatus {
	p, err := parse(x.At(side).GetMechanism().GetParameters())
	if err != nil {
		return nil
	}
	if x.GetPath() == models.DirectPath && x.GetClient().GetMechanism().GetType() == x.GetEndpoint().GetMechanism().GetType() {
		return m.directStatus(x, side, p)
	}
	tag := models.Tag(x.GetId(), side)
	s := &models.AttachmentStatus{Mechanism: Type, Parameters: m.told(p, m.Hint(x.GetId(), side, "")[SocketFile])}
	if p.netns != "" {
		s.Parameters[SocketFile] = "@" + abstractName(tag)
	}
	if i, ok := m.o.VPP.Tagged(tag); ok {
		s.Interface, s.LinkUp = i.Name, i.LinkUp
	}
	return s
}

// directStatus tells of a socket that two workloads share: it is there or not.
func (m *Mechanism) directStatus(x *models.CrossConnect, side models.Side, p params) *models.AttachmentStatus {
	socket := m.directSocket(x.GetId())
	parameters := m.told(p, socket)
	parameters[Role] = roles[side]
	_, err := os.Stat(filepath.Dir(socket))
	return &models.AttachmentStatus{Mechanism: Type, Interface: socket, LinkUp: err == nil, Parameters: parameters}
}

// told are the parameters that the workload needs to connect. The secret is not among
// them: the workload has it.
func (m *Mechanism) told(p params, socket string) map[string]string {
	out := map[string]string{SocketFile: socket, ID: "0"}
	prefer := m.o.Prefer.hints()
	for i, key := range hintKeys {
		if n := cmp.Or(p.hints[i], prefer[i]); n != 0 {
			out[key] = strconv.Itoa(n)
		}
	}
	return out
}
