package vm_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
	"github.com/google/uuid"
)

// ring is the key that all engines of the tests share.
var ring = sync.OnceValue(func() *keys.Ring {
	entry, err := keys.NewKey("test")
	if err != nil {
		panic(err)
	}
	r, err := keys.ParseRing(entry)
	if err != nil {
		panic(err)
	}
	return r
})

// cacheDir is shared: compiling the engine takes most of a second.
var cacheDir = sync.OnceValue(func() string { return compileCache })

var compileCache string

func newEngine(t testing.TB, change func(*vm.Options)) *vm.Engine {
	t.Helper()
	o := vm.Options{CacheDir: cacheDir(), Concurrency: 4, Keys: ring()}
	if change != nil {
		change(&o)
	}
	e, err := vm.New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	return e
}

// shared is the engine of tests that need none of their own, and other is
// another one made from scratch, as another process would.
var shared, other *vm.Engine

func start(t testing.TB, code, input string) *vm.Outcome {
	t.Helper()
	return startAs(t, shared, code, input)
}

func startAs(t testing.TB, e *vm.Engine, code, input string) *vm.Outcome {
	t.Helper()
	p := vm.StartParams{Frame: frame, Name: "task", Code: code, Input: json.RawMessage(input), TaskRun: "run-1", StackRun: "stack-1"}
	out, err := e.Start(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var frame = uuid.MustParse("018f0000-0000-7000-8000-000000000001")

// resume stores and reads the snapshot, and goes on in the other engine.
func resume(t testing.TB, out *vm.Outcome, replies ...vm.Reply) *vm.Outcome {
	t.Helper()
	if out.Snapshot == nil {
		t.Fatalf("the task does not wait: result %s, error %+v", out.Result, out.Err)
	}
	snap, err := vm.DecodeSnapshot(stored(out.Snapshot)...)
	if err != nil {
		t.Fatal(err)
	}
	next, err := other.Resume(context.Background(), frame, snap, replies)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func value(id uint32, text string) vm.Reply {
	return vm.Reply{ID: id, Reply: service.Reply{Value: json.RawMessage(text)}}
}

func failure(id uint32, e *service.Error) vm.Reply {
	return vm.Reply{ID: id, Reply: service.Reply{Err: e}}
}

// finish answers every open call with answer until the task ends.
func finish(t testing.TB, out *vm.Outcome, answer func(vm.Call) vm.Reply) *vm.Outcome {
	t.Helper()
	calls := map[uint32]vm.Call{}
	for !out.Ended {
		for _, c := range out.Calls {
			calls[c.ID] = c
		}
		var replies []vm.Reply
		for _, id := range out.Open {
			replies = append(replies, answer(calls[id]))
		}
		out = resume(t, out, replies...)
	}
	return out
}

// echo answers a call with its first argument.
func echo(c vm.Call) vm.Reply {
	if args := c.Args(); len(args) > 0 {
		return value(c.ID, string(args[0]))
	}
	return value(c.ID, "null")
}

func wantResult(t testing.TB, out *vm.Outcome, want string) {
	t.Helper()
	if !out.Ended || out.Err != nil || string(out.Result) != want {
		t.Fatalf("ended %v, result %s, error %+v; want result %s\nlogs %v", out.Ended, out.Result, out.Err, want, out.Logs)
	}
}
