package vm

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
)

//go:embed prelude.js
var preludeSource []byte

// preludeFile is what stack traces call the prelude, and how it drops its own
// frames from them.
const preludeFile = "amber:prelude"

// The engine's evaluation modes.
const (
	evalGlobal      = 0
	evalModule      = 1 << 0
	evalCompileOnly = 1 << 5
)

// boot turns a new instance into an image: engine started, stack moved,
// prelude evaluated, everything a slice needs allocated. The same options give
// the same bytes in every process.
func boot(ctx context.Context, s *sandbox, o Options) (*Image, error) {
	s.image = new(Image)
	ctx = context.WithValue(ctx, sandboxKey{}, s)
	for _, step := range []func(context.Context, *sandbox, Options) error{
		moveStack, startEngine, growTables, loadPrelude, trackRejections, runJobs, hideModules, patchTexts, fillHoles,
	} {
		if err := step(ctx, s, o); err != nil {
			return nil, err
		}
	}
	view, _ := s.memory.Read(0, s.memory.Size())
	memory := bytes.Clone(view)
	clear(memory[s.image.StackLow:s.image.StackHigh])
	return newImage(s.engine, s.image.anchors, memory), nil
}

// moveStack gives the guest a stack on its own heap, with a limit.
func moveStack(ctx context.Context, s *sandbox, _ Options) error {
	p, err := s.invoke(ctx, s.malloc, stackSize+2*pageSize)
	if err != nil || p == 0 {
		return fmt.Errorf("allocate guest stack: %w", err)
	}
	s.image.StackLow = (uint32(p) + pageSize - 1) &^ (pageSize - 1)
	s.image.StackHigh = s.image.StackLow + stackSize
	s.resetStack()
	return nil
}

func (s *sandbox) export(ctx context.Context, name string, args ...uint64) (uint64, error) {
	f := s.module.ExportedFunction(name)
	if f == nil {
		return 0, fmt.Errorf("engine exports no %s", name)
	}
	v, err := s.invoke(ctx, f, args...)
	if err != nil {
		return 0, fmt.Errorf("call %s: %w", name, err)
	}
	return v, nil
}

// gcThreshold is the size of the JavaScript heap at which cycles are first
// collected. The engine's own, 256 KiB, is where an image is already: every
// slice would begin with a collection, which also touches every object and so
// makes every page of a snapshot dirty.
const gcThreshold = 1 << 20

func startEngine(ctx context.Context, s *sandbox, o Options) error {
	rt, err := s.export(ctx, "New_QJS", uint64(o.Limits.Memory), 0, 0, gcThreshold)
	if err != nil {
		return err
	}
	c, err := s.export(ctx, "QJS_GetContext", rt)
	if err != nil {
		return err
	}
	s.image.Context = uint32(c)
	if s.image.Undefined, err = s.export(ctx, "JS_NewUndefined"); err != nil {
		return err
	}
	// Throwing is how to learn the value that stands for an exception.
	if s.image.Exception, err = s.export(ctx, "JS_Throw", c, s.image.Undefined); err != nil {
		return err
	}
	_, err = s.exception(ctx)
	return err
}

// growTables makes the engine's hash tables of names and object shapes larger
// than most tasks need: when one is doubled, every entry of the image changes,
// and every page of a snapshot with it.
func growTables(ctx context.Context, s *sandbox, _ Options) error {
	const code = `{ const all = []; for (let i = 0; i < 1500; i++) all[i] = { ['amber' + i]: i } }`
	v, err := s.eval(ctx, s.qjsEval, preludeFile, []byte(code), evalGlobal)
	if err != nil || v != s.image.Exception {
		return err
	}
	return s.bootFailure(ctx)
}

func loadPrelude(ctx context.Context, s *sandbox, _ Options) error {
	proxied, err := s.export(ctx, "QJS_CreateFunctionProxy", uint64(s.image.Context), 0, 0, 0)
	if err != nil {
		return err
	}
	if err := s.allocateArguments(ctx); err != nil {
		return err
	}
	prelude, err := s.eval(ctx, s.qjsEval, preludeFile, preludeSource, evalGlobal)
	if err != nil {
		return err
	}
	if prelude == s.image.Exception {
		return s.bootFailure(ctx)
	}
	entries, err := s.call(ctx, prelude, proxied)
	if err != nil {
		return err
	}
	if entries == s.image.Exception {
		return s.bootFailure(ctx)
	}
	a := &s.image.anchors
	for i, at := range []*uint64{&a.Wake, &a.Start, &a.Settle, &a.Describe, &a.Wrapped} {
		if *at, err = s.export(ctx, "QJS_GetPropertyUint32", uint64(a.Context), entries, uint64(i)); err != nil {
			return err
		}
	}
	return nil
}

// bootFailure reads the exception of a prelude that is broken.
func (s *sandbox) bootFailure(ctx context.Context) error {
	thrown, err := s.exception(ctx)
	if err != nil {
		return err
	}
	var parts [2][]byte
	for i, key := range []string{"message", "stack"} {
		name, err := s.newCString(ctx, []byte(key))
		if err != nil {
			return err
		}
		v, err := s.export(ctx, "JS_GetPropertyStr", uint64(s.image.Context), thrown, uint64(name))
		if err != nil {
			return err
		}
		if parts[i], err = s.stringOf(ctx, v); err != nil {
			return err
		}
	}
	return fmt.Errorf("evaluate prelude: %s %s", parts[0], parts[1])
}

func (s *sandbox) allocateArguments(ctx context.Context) error {
	p, err := s.invoke(ctx, s.malloc, maxArguments*8)
	s.image.Arguments = uint32(p)
	return err
}

// runJobs runs what booting left in the job queue.
func runJobs(ctx context.Context, s *sandbox, _ Options) error { return s.drain(ctx) }

// hideModules overwrites the names under which the engine registered its own
// modules, with bytes that hash to another place: no import finds them again.
func hideModules(_ context.Context, s *sandbox, _ Options) error {
	view, _ := s.memory.Read(0, s.memory.Size())
	heap := view[s.image.StackHigh:]
	for _, name := range []string{"qjs:std", "qjs:os", "qjs:bjson", "<init_global>"} {
		if overwrite(heap, []byte(name+"\x00"), bytes.Repeat([]byte{'-'}, len(name))) == 0 {
			return fmt.Errorf("hide modules: %s is not in the image", name)
		}
	}
	return nil
}

// patchTexts replaces the engine's words about modules that it cannot load.
func patchTexts(_ context.Context, s *sandbox, _ Options) error {
	view, _ := s.memory.Read(0, s.memory.Size())
	for _, text := range []string{"could not load module filename '%s'", "could not load JSON module filename '%s'"} {
		next := append([]byte(importFailure), 0)
		if overwrite(view, []byte(text+"\x00"), next) != 1 {
			return fmt.Errorf("patch texts: %q is not in the image once", text)
		}
	}
	return nil
}

// fillHoles takes every gap that booting left on the guest's heap, for good. A
// task's own objects then lie together at the end of the heap instead of a few
// in every page of the image: fewer pages of a snapshot are dirty.
func fillHoles(ctx context.Context, s *sandbox, _ Options) error {
	const probe = 256 << 10 // larger than any gap, so it comes from the end
	end, err := s.invoke(ctx, s.malloc, probe)
	if err != nil {
		return err
	}
	if _, err := s.invoke(ctx, s.free, end); err != nil {
		return err
	}
	for size := uint64(probe); size >= 8; {
		p, err := s.invoke(ctx, s.malloc, size)
		if err != nil {
			return err
		}
		if p < end {
			b, _ := s.memory.Read(uint32(p), uint32(size))
			clear(b)
			continue
		}
		if _, err := s.invoke(ctx, s.free, p); err != nil {
			return err
		}
		if size > 16<<10 {
			size -= 4096
		} else if size > 1024 {
			size -= 256
		} else {
			size -= 8
		}
	}
	return clearEnd(ctx, s, end)
}

// clearEnd clears what is free at the end of the heap, from an address on. The pages
// are blank then, which costs least to compare.
func clearEnd(ctx context.Context, s *sandbox, end uint64) error {
	const slack = 128 // for what the allocator keeps beside a block and behind the last
	size := uint64(s.memory.Size())
	free := size - end - slack
	p, err := s.invoke(ctx, s.malloc, free)
	if err != nil {
		return err
	}
	b, ok := s.memory.Read(uint32(p), uint32(free))
	if p != end || !ok || uint64(s.memory.Size()) != size {
		return fmt.Errorf("clear the end of the heap: %d bytes are not free at %d", free, end)
	}
	clear(b)
	_, err = s.invoke(ctx, s.free, p)
	return err
}

// overwrite puts next over every occurrence of old and returns their number.
func overwrite(memory, old, next []byte) int {
	n := 0
	for at := 0; ; n++ {
		i := bytes.Index(memory[at:], old)
		if i < 0 {
			return n
		}
		at += i
		copy(memory[at:], next)
		at += len(old)
	}
}
