package manager

import (
	"testing"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Also a field that NSM's API gets later must be in what is shared.
func TestWithMechanismLeavesNothingOut(t *testing.T) {
	conn := &networkservice.Connection{}
	to := conn.ProtoReflect()
	for i := range to.Descriptor().Fields().Len() {
		switch f := to.Descriptor().Fields().Get(i); {
		case f.IsMap():
			to.Mutable(f).Map().Set(protoreflect.ValueOfString("k").MapKey(), protoreflect.ValueOfString("v"))
		case f.Message() != nil:
			to.Mutable(f)
		case f.Kind() == protoreflect.EnumKind:
			to.Set(f, protoreflect.ValueOfEnum(1))
		default:
			to.Set(f, protoreflect.ValueOfString(string(f.Name())))
		}
	}
	to.SetUnknown([]byte{0xf8, 1, 7}) // field 31, which a newer API may have
	other := &networkservice.Mechanism{Type: "MEMIF"}
	out := withMechanism(conn, other)
	if out.Mechanism != other || conn.Mechanism == other {
		t.Error("the mechanism is not the other one, or the first has it, too")
	}
	out.Mechanism = conn.Mechanism
	from := out.ProtoReflect()
	if string(from.GetUnknown()) != string(to.GetUnknown()) {
		t.Error("what this API does not know is left out")
	}
	for i := range to.Descriptor().Fields().Len() {
		if f := to.Descriptor().Fields().Get(i); !from.Get(f).Equal(to.Get(f)) {
			t.Errorf("%s is left out", f.Name())
		}
	}
}
