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
	errStackOverflow = errors.New("guest stack overflow")
	errGuestExit     = errors.New("guest called exit")
	errHostCall      = errors.New("guest passed a bad argument to its host")
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
// argv). A null context never comes from JavaScript: that is a guard. A panic
// unwinds the guest and comes back as the error of the call that entered it.
func hostFunction(ctx context.Context, stack []uint64) {
	s, ok := ctx.Value(sandboxKey{}).(*sandbox)
	if !ok {
		panic(errHostCall)
	}
	if uint32(stack[0]) == 0 {
		if stack[1] == harden.TrapStack {
			panic(errStackOverflow)
		}
		panic(errHostCall)
	}
	stack[0] = s.hostCall(ctx, uint32(stack[2]), uint32(stack[3]))
}

// hostCall reads the arguments (operation, a, b, unused) and does the operation.
func (s *sandbox) hostCall(ctx context.Context, argc, argv uint32) uint64 {
	if argc < 4 || s.slice == nil { // the probe at boot passes nothing worth reading
		return s.image.Undefined
	}
	op, a, b := s.argument(argv, 0), s.argument(argv, 1), s.argument(argv, 2)
	switch op {
	case opCall:
		s.slice.call(callID(a), s.guestString(ctx, b))
	case opCancel:
		s.slice.cancel(callID(a))
	case opLog:
		if s.slice.log(s.guestString(ctx, a), s.guestString(ctx, b)) {
			return 1
		}
	case opDone:
		s.slice.done(s.guestString(ctx, a))
	case opFail:
		s.slice.fail(s.guestString(ctx, a))
	case opRandom:
		return s.random(ctx, uint32(a))
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

// callID reads a JavaScript value that must be a small positive integer: the
// tag of an integer is 0, and the tag is the upper half.
func callID(v uint64) uint32 {
	if v == 0 || v > 1<<31-1 {
		panic(errHostCall)
	}
	return uint32(v)
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
