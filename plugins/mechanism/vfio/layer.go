package vfio

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// In version 2 of control groups, a program that the container's runtime attaches says which devices
// may be opened (Documentation/admin-guide/cgroup-v2.rst, Device controller). Each program of a group
// must agree, so that a further one could only forbid. A grant is therefore a layer before what the
// runtime's program does: one that has it says yes to the workload's devices, and to everything else what that one said
// before. It is put before, and taken out of, what is there at that moment; nothing is to be remembered.

// The marks by which a layer is found in a program: two loads of numbers that nobody reads.
const layerMark = 0x50415443 // "PATC"

// layerSize is how many instructions a layer for two devices has.
const layerSize = 13

// layer is the grant with this key, of two devices.
func layer(key string, rules []rule) asm.Instructions {
	const ( // struct bpf_cgroup_dev_ctx, linux/bpf.h
		accessType, major, minor = 0, 4, 8
		kindMask, character      = 0xffff, 2 // BPF_DEVCG_DEV_CHAR
	)
	skip := func(op asm.JumpOp, r asm.Register, v int32, by int16) asm.Instruction {
		i := op.Imm(r, v, "")
		i.Offset = by
		return i
	}
	a, b := rules[0], rules[1]
	return asm.Instructions{
		asm.Mov.Imm32(asm.R0, layerMark),
		asm.Mov.Imm32(asm.R0, markOf(key)),
		asm.LoadMem(asm.R2, asm.R1, accessType, asm.Word),
		asm.And.Imm32(asm.R2, kindMask),
		skip(asm.JNE, asm.R2, character, 8),
		asm.LoadMem(asm.R2, asm.R1, major, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, minor, asm.Word),
		skip(asm.JNE, asm.R2, int32(a.major), 1),
		skip(asm.JEq, asm.R3, int32(a.minor), 2),
		skip(asm.JNE, asm.R2, int32(b.major), 3),
		skip(asm.JNE, asm.R3, int32(b.minor), 2),
		asm.Mov.Imm(asm.R0, 1),
		asm.Return(),
	}
}

// markOf tells one grant's layer from another's.
func markOf(key string) int32 {
	sum := sha256.Sum256([]byte(key))
	return int32(binary.BigEndian.Uint32(sum[:]))
}

// find is where a grant's layer begins in a program; -1: it has none.
func find(program asm.Instructions, key string) int {
	load := func(i asm.Instruction, v int32) bool {
		return i.OpCode.Class().IsALU() && i.OpCode.ALUOp() == asm.Mov && i.Dst == asm.R0 && int32(i.Constant) == v
	}
	for at := 0; at+layerSize <= len(program); at++ {
		if load(program[at], layerMark) && load(program[at+1], markOf(key)) {
			return at
		}
	}
	return -1
}

// programs calls f with each program of a group that says which devices may be opened.
func programs(dir string, f func(group *os.File, p *ebpf.Program, text asm.Instructions) error) error {
	group, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("control group: %w", err)
	}
	defer group.Close()
	all, err := link.QueryPrograms(link.QueryOptions{Target: int(group.Fd()), Attach: ebpf.AttachCGroupDevice})
	if err != nil {
		return fmt.Errorf("control group %s: programs for devices: %w", dir, err)
	}
	var errs []error
	for _, a := range all.Programs {
		errs = append(errs, with(a.ID, func(p *ebpf.Program, text asm.Instructions) error { return f(group, p, text) }))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("control group %s: %w", dir, err)
	}
	return nil
}

// with reads a program.
func with(id ebpf.ProgramID, f func(*ebpf.Program, asm.Instructions) error) error {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Errorf("program %d: %w", id, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return fmt.Errorf("program %d: %w", id, err)
	}
	text, err := info.Instructions()
	if err != nil {
		return fmt.Errorf("read program %d: %w", id, err)
	}
	return f(p, text)
}

// addLayer puts a grant's layer before each program of a group. A group without programs may open everything.
func addLayer(dir, key string, rules []rule) error {
	return programs(dir, func(group *os.File, p *ebpf.Program, text asm.Instructions) error {
		if find(text, key) >= 0 {
			return nil
		}
		return replace(group, p, append(layer(key, rules), text...))
	})
}

// removeLayer takes it out again.
func removeLayer(dir, key string) error {
	return programs(dir, func(group *os.File, p *ebpf.Program, text asm.Instructions) error {
		at := find(text, key)
		if at < 0 {
			return nil
		}
		return replace(group, p, append(text[:at:at], text[at+layerSize:]...))
	})
}

// hasLayer tells whether every program of a group has it.
func hasLayer(dir, key string) (has bool, err error) {
	has = true
	err = programs(dir, func(_ *os.File, _ *ebpf.Program, text asm.Instructions) error {
		has = has && find(text, key) >= 0
		return nil
	})
	return has, err
}

// replace puts another program in the place of one, in a single step.
func replace(group *os.File, old *ebpf.Program, text asm.Instructions) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "devices", Type: ebpf.CGroupDevice, License: "Apache-2.0", Instructions: text})
	if err != nil {
		return fmt.Errorf("load the program for devices: %w", err)
	}
	defer p.Close()
	attr := struct{ target, program, kind, flags, old uint32 }{ // union bpf_attr of BPF_PROG_ATTACH, linux/bpf.h
		uint32(group.Fd()), uint32(p.FD()), uint32(ebpf.AttachCGroupDevice), unix.BPF_F_ALLOW_MULTI | unix.BPF_F_REPLACE, uint32(old.FD()),
	}
	err = attach(&attr)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) { // it is not one of several: the new takes its place
		for _, flags := range []uint32{0, unix.BPF_F_ALLOW_OVERRIDE} {
			attr.flags, attr.old = flags, 0
			if err = attach(&attr); err == nil {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("replace the program for devices: %w", err)
	}
	return nil
}

func attach(attr *struct{ target, program, kind, flags, old uint32 }) error {
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr)); errno != 0 {
		return errno
	}
	return nil
}
