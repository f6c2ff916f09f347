package vm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"

	"github.com/amberhost/amber/vm/internal/harden"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Operations of the one host function, as prelude.js numbers them.
const (
	opCall = 1 + iota
	opCancel
	opLog
	opDone
	opFail
	opRandom
)

var (
	errGuestExit     = errors.New("guest called exit")
	errHostCall      = errors.New("guest passed a bad argument to its host")
	errHostReentered = errors.New("guest called its host from within a call to it")
)

// sandboxKey is the context key under which a guest call finds its sandbox.
type sandboxKey struct{}

func instantiateHost(ctx context.Context, r wazero.Runtime, log *slog.Logger) error {
	if err := instantiateWASI(ctx, r, log); err != nil {
		return err
	}
	i64, i32 := api.ValueTypeI64, api.ValueTypeI32
	_, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().
		WithGoFunction(api.GoFunc(hostFunction), []api.ValueType{i32, i64, i32, i32}, []api.ValueType{i64}).
		Export("jsFunctionProxy").Instantiate(ctx)
	return err
}

// hostFunction is what JavaScript calls: jsFunctionProxy(JSContext, this, argc,
// argv). A null context never comes from JavaScript: that is code which harden
// added. A panic
// unwinds the guest and comes back as the error of the call that entered it.
func hostFunction(ctx context.Context, stack []uint64) {
	s, ok := ctx.Value(sandboxKey{}).(*sandbox)
	if !ok {
		panic(errHostCall)
	}
	if uint32(stack[0]) == 0 {
		stack[0] = s.guardCall(ctx, stack[1], uint32(stack[2]), uint32(stack[3]))
		return
	}
	stack[0] = s.hostCall(ctx, uint32(stack[2]), uint32(stack[3]))
}

func (s *sandbox) guardCall(ctx context.Context, value uint64, object, what uint32) uint64 {
	switch {
	case what == harden.Rejected:
		s.rejected(ctx, object, value)
	case what == harden.Heard:
		s.heard(ctx, object)
	case value == harden.Tick:
		s.tick()
	case value == harden.TrapStack:
		panic(errStackOverflow)
	default:
		panic(errHostCall)
	}
	return 0
}

// hostCall reads the arguments (operation, a, b, unused) and does the
// operation. No code of a task runs within it: the functions that it enters the
// guest through are not reentrant.
func (s *sandbox) hostCall(ctx context.Context, argc, argv uint32) uint64 {
	if argc < 4 || s.slice == nil { // the probe at boot passes nothing worth reading
		return s.image.Undefined
	}
	if s.inHost {
		panic(errHostReentered)
	}
	s.inHost = true
	defer func() { s.inHost = false }()
	op, a, b := s.argument(argv, 0), s.argument(argv, 1), s.argument(argv, 2)
	switch op {
	case opCall:
		s.slice.call(positive(a), s.guestString(ctx, b))
	case opCancel:
		s.slice.cancel(positive(a))
	case opLog:
		if s.slice.log(s.guestString(ctx, a), s.guestString(ctx, b)) {
			return 1
		}
	case opDone:
		s.slice.done(s.guestString(ctx, a))
	case opFail:
		s.slice.fail(s.guestString(ctx, a))
	case opRandom:
		return s.random(ctx, integer(a))
	default:
		panic(errHostCall)
	}
	return s.image.Undefined
}

func (s *sandbox) argument(argv uint32, i uint32) uint64 {
	v, ok := s.memory.ReadUint64Le(argv + 8*i)
	if !ok || argv+8*i < argv {
		panic(errHostCall)
	}
	return v
}

// integer reads a JavaScript value that must be an integer from 0 up: the tag
// of an integer is 0, and the tag is the upper half.
func integer(v uint64) uint32 {
	if v > 1<<31-1 {
		panic(errHostCall)
	}
	return uint32(v)
}

func positive(v uint64) uint32 {
	n := integer(v)
	if n == 0 {
		panic(errHostCall)
	}
	return n
}

// random returns n random bytes as a JavaScript string of hex digits.
func (s *sandbox) random(ctx context.Context, n uint32) uint64 {
	if n > 1<<16 {
		panic(errHostCall)
	}
	raw := make([]byte, n)
	rand.Read(raw) // never fails
	text := make([]byte, 2*n+1)
	hex.Encode(text, raw)
	return s.nestedString(ctx, text)
}
