package models

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Parameters that every mechanism has whose workload gets a socket.
const (
	ParamOwner = "owner" // uid:gid of the socket
	ParamMode  = "mode"  // of the socket, octal
)

// Access is who may connect to a workload's socket.
type Access struct {
	UID, GID int
	Mode     fs.FileMode
}

// ParseAccess reads the parameters ParamOwner, without which the socket belongs to uid and
// gid, and ParamMode, without which nobody else may connect. An error is a *FieldError
// whose field is the parameter's name.
func ParseAccess(parameters map[string]string, uid, gid int) (Access, error) {
	a := Access{uid, gid, 0o600}
	if s := parameters[ParamOwner]; s != "" {
		u, g, ok := strings.Cut(s, ":")
		id1, err1 := strconv.ParseUint(u, 10, 31)
		id2, err2 := strconv.ParseUint(g, 10, 31)
		if !ok || err1 != nil || err2 != nil {
			return a, &FieldError{Field: ParamOwner, Reason: fmt.Sprintf("%q is not uid:gid, like 1000:1000", s)}
		}
		a.UID, a.GID = int(id1), int(id2)
	}
	if s := parameters[ParamMode]; s != "" {
		mode, err := strconv.ParseUint(s, 8, 9)
		if err != nil {
			return a, &FieldError{Field: ParamMode, Reason: fmt.Sprintf("%q is no file mode, like 0660", s)}
		}
		a.Mode = fs.FileMode(mode)
	}
	return a, nil
}
