package vm

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero/api"
)

// stringOf is guestString outside of a host call.
func (s *sandbox) stringOf(ctx context.Context, v uint64) (text []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.dead = true
			if err, _ = p.(error); err == nil {
				err = fmt.Errorf("%v", p)
			}
			err = fmt.Errorf("read guest string: %w", err)
		}
	}()
	return s.guestString(ctx, v), nil
}

// tagString is the tag, the upper half of a value, of a JavaScript string.
const tagString = -7

// guestString returns a copy of a JavaScript string. It runs within host calls
// and panics, which ends the guest, where the guest is at fault. Anything but a
// string is refused: converting an object would run a task's code.
func (s *sandbox) guestString(ctx context.Context, v uint64) []byte {
	if int32(v>>32) != tagString {
		panic(errHostCall)
	}
	packed := s.nested(ctx, s.nestedToC, uint64(s.image.Context), v)
	if packed == 0 {
		panic(errNoMemory)
	}
	word, ok := s.memory.ReadUint64Le(uint32(packed))
	if !ok {
		panic(errHostCall)
	}
	at, size := uint32(word>>32), uint32(word)
	view, ok := s.memory.Read(at, size)
	if !ok {
		panic(errHostCall)
	}
	text := append(make([]byte, 0, size), view...)
	s.nested(ctx, s.nestedFreeC, uint64(s.image.Context), uint64(at))
	s.nested(ctx, s.nestedFree, packed)
	return text
}

// nestedString makes a JavaScript string of text, which ends with a NUL.
func (s *sandbox) nestedString(ctx context.Context, text []byte) uint64 {
	at := s.nested(ctx, s.nestedMalloc, uint64(len(text)))
	if at == 0 || !s.memory.Write(uint32(at), text) {
		panic(errNoMemory)
	}
	v := s.nested(ctx, s.nestedNewString, uint64(s.image.Context), at)
	s.nested(ctx, s.nestedFree, at)
	return v
}

func (s *sandbox) nested(ctx context.Context, f api.Function, args ...uint64) uint64 {
	var stack [4]uint64
	copy(stack[:], args)
	if err := f.CallWithStack(ctx, stack[:]); err != nil {
		panic(err)
	}
	return stack[0]
}
