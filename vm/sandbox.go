package vm

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm/internal/harden"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// sandbox is one instance of the engine: the VM of design, alive for one slice
// at a time. It belongs to one goroutine.
type sandbox struct {
	image  *Image
	slice  *slice // what the running slice did; nil while booting and between slices
	engine *module
	module api.Module
	memory api.Memory
	dead   bool // trapped: memory is in no known state
	inHost bool // a host call is under way

	rejections []rejection // in this turn, of promises that nothing listens to

	stackPointer, stackLimit, stackFloor, fuel api.MutableGlobal

	meter meter

	changes []run // where memory differs from the image's
	known   bool  // whether changes are all there are

	qjsCall, qjsEval, qjsLoad, evalOption, parseJSON, newString api.Function
	loop, hasException, getException, freeValue, malloc, free   api.Function

	// The engine is entered again from within a host call through functions of
	// their own: a wazero function is not reentrant.
	nestedToC, nestedFreeC, nestedMalloc, nestedFree, nestedNewString, nestedClone, nestedFreeValue api.Function

	stack [8]uint64 // arguments and result of the next call

	live *atomic.Int64 // counts the VMs that are not closed
}

// newSandbox makes an instance whose memory is as the module declares it.
func (e *Engine) newSandbox(ctx context.Context, m *module) (*sandbox, error) {
	compiled, err := e.compiled(ctx, m)
	if err != nil {
		return nil, err
	}
	ctx = experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(reserveMemory))
	module, err := e.runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, fmt.Errorf("instantiate engine: %w", err)
	}
	s := &sandbox{engine: m, module: module, memory: module.Memory(), live: &e.pool.live}
	s.stackPointer, _ = module.ExportedGlobal(harden.StackPointer).(api.MutableGlobal)
	s.stackLimit, _ = module.ExportedGlobal(harden.StackLimit).(api.MutableGlobal)
	s.stackFloor, _ = module.ExportedGlobal(harden.StackFloor).(api.MutableGlobal)
	s.fuel, _ = module.ExportedGlobal(harden.Fuel).(api.MutableGlobal)
	for name, at := range map[string][]*api.Function{
		"QJS_Call":             {&s.qjsCall},
		"QJS_Eval":             {&s.qjsEval},
		"QJS_Load":             {&s.qjsLoad},
		"QJS_CreateEvalOption": {&s.evalOption},
		"QJS_ParseJSON":        {&s.parseJSON},
		"QJS_NewString":        {&s.newString, &s.nestedNewString},
		harden.Loop:            {&s.loop},
		"JS_HasException":      {&s.hasException},
		"JS_GetException":      {&s.getException},
		"QJS_FreeValue":        {&s.freeValue, &s.nestedFreeValue},
		"QJS_CloneValue":       {&s.nestedClone},
		"malloc":               {&s.malloc, &s.nestedMalloc},
		"free":                 {&s.free, &s.nestedFree},
		"QJS_ToCString":        {&s.nestedToC},
		"JS_FreeCString":       {&s.nestedFreeC},
	} {
		for _, f := range at {
			if *f = module.ExportedFunction(name); *f == nil {
				module.Close(ctx)
				return nil, fmt.Errorf("instantiate engine: it exports no %s", name)
			}
		}
	}
	s.live.Add(1)
	return s, nil
}

func (s *sandbox) close(ctx context.Context) {
	s.module.Close(ctx)
	s.live.Add(-1)
}

// invoke calls f and returns its result, 0 if it has none.
func (s *sandbox) invoke(ctx context.Context, f api.Function, args ...uint64) (uint64, error) {
	copy(s.stack[:], args)
	if err := f.CallWithStack(ctx, s.stack[:]); err != nil {
		s.dead = true
		return 0, err
	}
	return s.stack[0], nil
}

// newCString copies text and a final NUL into the guest. The caller frees it
// with freeCString.
func (s *sandbox) newCString(ctx context.Context, text []byte) (uint32, error) {
	p, err := s.invoke(ctx, s.malloc, uint64(len(text)+1))
	if err != nil {
		return 0, err
	}
	at := uint32(p)
	if at == 0 {
		return 0, errNoMemory
	}
	if !s.memory.Write(at, text) || !s.memory.WriteByte(at+uint32(len(text)), 0) {
		return 0, errHostCall
	}
	return at, nil
}

// freeCString clears the bytes, which would only swell the next snapshot, and
// frees them.
func (s *sandbox) freeCString(ctx context.Context, at uint32, size int) error {
	if b, ok := s.memory.Read(at, uint32(size)); ok {
		clear(b)
	}
	_, err := s.invoke(ctx, s.free, uint64(at))
	return err
}

// parse makes a JavaScript value of JSON text. A text that is not JSON gives
// the engine's exception value.
func (s *sandbox) parse(ctx context.Context, text []byte) (uint64, error) {
	at, err := s.newCString(ctx, text)
	if err != nil {
		return 0, err
	}
	v, err := s.invoke(ctx, s.parseJSON, uint64(s.image.Context), uint64(at))
	if err != nil {
		return 0, err
	}
	return v, s.freeCString(ctx, at, len(text))
}

// eval runs f, QJS_Eval or QJS_Load, on a source text.
func (s *sandbox) eval(ctx context.Context, f api.Function, file string, source []byte, flags uint64) (uint64, error) {
	code, err := s.newCString(ctx, source)
	if err != nil {
		return 0, err
	}
	name, err := s.newCString(ctx, []byte(file))
	if err != nil {
		return 0, err
	}
	options, err := s.invoke(ctx, s.evalOption, uint64(code), 0, 0, uint64(name), flags)
	if err != nil {
		return 0, err
	}
	if options == 0 {
		return 0, errNoMemory
	}
	v, err := s.invoke(ctx, f, uint64(s.image.Context), options)
	if err != nil {
		return 0, err
	}
	if _, err := s.invoke(ctx, s.free, options); err != nil {
		return 0, err
	}
	if err := s.freeCString(ctx, name, len(file)); err != nil {
		return 0, err
	}
	return v, s.freeCString(ctx, code, len(source))
}

// call calls a JavaScript function and frees the arguments. An exception comes
// back as the image's Exception value; take it with exception.
func (s *sandbox) call(ctx context.Context, function uint64, args ...uint64) (uint64, error) {
	var raw [maxArguments * 8]byte
	for i, a := range args {
		binary.LittleEndian.PutUint64(raw[8*i:], a)
	}
	if !s.memory.Write(s.image.Arguments, raw[:8*len(args)]) {
		return 0, errHostCall
	}
	v, err := s.invoke(ctx, s.qjsCall, uint64(s.image.Context), function, s.image.Undefined,
		uint64(len(args)), uint64(s.image.Arguments))
	if err != nil {
		return 0, err
	}
	for _, a := range args {
		if err := s.release(ctx, a); err != nil {
			return 0, err
		}
	}
	return v, nil
}

// release drops a reference to a value. Values without a reference count, such
// as small integers, have tags from 0 up.
func (s *sandbox) release(ctx context.Context, v uint64) error {
	if int32(v>>32) >= 0 {
		return nil
	}
	_, err := s.invoke(ctx, s.freeValue, uint64(s.image.Context), v)
	return err
}

// exception takes the pending exception.
func (s *sandbox) exception(ctx context.Context) (uint64, error) {
	return s.invoke(ctx, s.getException, uint64(s.image.Context))
}

// drain runs JavaScript's job queue until it is empty.
func (s *sandbox) drain(ctx context.Context) error {
	for {
		if _, err := s.invoke(ctx, s.loop, uint64(s.image.Context)); err != nil {
			return err
		}
		threw, err := s.invoke(ctx, s.hasException, uint64(s.image.Context))
		if err != nil || uint32(threw) == 0 {
			return err
		}
		thrown, err := s.describe(ctx) // of a job that stopped the run
		if err != nil {
			return err
		}
		s.slice.uncaught(thrown)
	}
}

// describe takes the pending exception and returns it as an error.
func (s *sandbox) describe(ctx context.Context) (*service.Error, error) {
	thrown, err := s.exception(ctx)
	if err != nil {
		return nil, err
	}
	return s.describeValue(ctx, thrown)
}

// describeValue frees thrown.
func (s *sandbox) describeValue(ctx context.Context, thrown uint64) (*service.Error, error) {
	text, err := s.call(ctx, s.image.Describe, thrown)
	if err != nil {
		return nil, err
	}
	if text == s.image.Exception {
		if _, err := s.exception(ctx); err != nil {
			return nil, err
		}
		return &service.Error{Name: "InternalError", Message: "out of memory"}, nil
	}
	raw, err := s.stringOf(ctx, text)
	if err != nil {
		return nil, err
	}
	return decodeError(raw), s.release(ctx, text)
}
