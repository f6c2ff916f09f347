package vm_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

// hostile is a program of the corpus. Its code is the body of an async function,
// or the whole source.
type hostile struct {
	name, code string
	whole      bool
	replies    [][]vm.Reply // each to a slice that waits
	want       string       // the result
	err        string       // or how the error begins, as "CODE: message"
	harmless   bool         // a machine that is busy may also stop it, by the clock
}

const (
	tooLong  = service.CodeCPULimit + ": CPU time limit exceeded"
	noMemory = service.CodeMemoryLimit + ": out of memory"
	tooDeep  = service.CodeStackLimit + ": Maximum call stack size exceeded"
)

// long is the form of the tests that takes minutes and looks at the clock.
var long = os.Getenv("AMBER_LONG") != ""

// TestHostileCorpus runs every program of the corpus, two at a time, while a
// third task is watched. Each ends as it must and within its limit, the third
// computes the same at the same cost throughout, and afterwards the host is as
// it was. AMBER_LONG=1 bounds times by the clock as well.
func TestHostileCorpus(t *testing.T) {
	for _, c := range []struct {
		name     string
		cpu      time.Duration
		programs []hostile
	}{
		{"looping", 30 * time.Millisecond, looping},
		{"growing", 5 * time.Second, growing},
		{"escaping", 5 * time.Second, escaping},
	} {
		t.Run(c.name, func(t *testing.T) {
			goroutines := runtime.NumGoroutine()
			h := newCorpusHost(t, c.cpu)
			image := encoded(t, h.Engine)
			alone := h.run(plain())
			before := measure(h.Engine)
			beside := h.run(c.programs)
			wantResult(t, startAs(t, h.Engine, watchedCode, ""), watchedResult)
			after := measure(h.Engine)
			t.Logf("before %+v, after %+v; p99 of the watched task %v beside plain loops, %v beside these", before, after, alone, beside)
			after.check(t, before)
			if !bytes.Equal(encoded(t, h.Engine), image) {
				t.Error("the image has changed")
			}
			if long && beside > 2*alone {
				t.Errorf("p99 of the watched task is %v beside plain loops, %v beside these", alone, beside)
			}
			if err := h.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if n := runtime.NumGoroutine(); n > goroutines {
				t.Errorf("%d goroutines, %d before", n, goroutines)
			}
		})
	}
}

// plain are programs of the harmless kind.
func plain() []hostile {
	n := 10
	if long {
		n = 500
	}
	return slices.Repeat([]hostile{
		{name: "a loop", code: `for (let i = 0; i < 1e5; i++); return 1`, want: "1", harmless: true},
		{name: "a large snapshot", code: `const a = new Uint8Array(8e6).fill(1); await tools.a.b(); return a.length`, want: "8000000", harmless: true, replies: [][]vm.Reply{{value(1, "1")}}},
	}, n)
}

func encoded(t *testing.T, e *vm.Engine) []byte {
	t.Helper()
	b, err := e.Image().Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(b, e.Image().Digest().String()...)
}

// idleMemory has room for three VMs.
const idleMemory = 6 << 20

// corpusHost runs programs and holds them to their limit.
type corpusHost struct {
	*vm.Engine
	t   *testing.T
	cpu time.Duration
}

func newCorpusHost(t *testing.T, cpu time.Duration) *corpusHost {
	t.Helper()
	e, err := vm.New(t.Context(), vm.Options{CacheDir: cacheDir(), Keys: ring(), Concurrency: 3, IdleMemory: idleMemory,
		Limits: vm.Limits{CPU: cpu, Memory: 8 << 20, Value: 1 << 20, Snapshot: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	return &corpusHost{e, t, cpu}
}

// run plays programs, two at a time, and watches a third task: it returns the
// time under which 99 of 100 of its runs stayed.
func (h *corpusHost) run(programs []hostile) time.Duration {
	queue, over := make(chan hostile), make(chan struct{})
	var players, watcher sync.WaitGroup
	for range 2 {
		players.Go(func() {
			for p := range queue {
				h.play(p)
			}
		})
	}
	var times []time.Duration
	watcher.Go(func() { times = h.watch(over) })
	for _, p := range programs {
		queue <- p
	}
	close(queue)
	players.Wait()
	close(over)
	watcher.Wait()
	slices.Sort(times)
	return times[len(times)*99/100]
}

const (
	watchedCode = `module.exports = () => { const a = []; for (let i = 0; i < 500; i++) a.push({ i }); return [JSON.stringify(a).length, typeof left, typeof [].left, typeof Math.left] }`

	watchedResult = `[4891,"undefined","undefined","undefined"]`
)

// watch runs the watched task over and over, ten times at least.
func (h *corpusHost) watch(over <-chan struct{}) (times []time.Duration) {
	var cost time.Duration
	for {
		began := time.Now()
		out, err := h.Start(context.Background(), vm.StartParams{Frame: frame, Name: "watched", Code: watchedCode})
		times = append(times, time.Since(began))
		switch {
		case err != nil:
			h.t.Errorf("the watched task: %v", err)
		case h.late(out, times[len(times)-1]):
		case ending(out) != watchedResult:
			h.t.Errorf("the watched task: %s", ending(out))
		case len(times) == 1: // its code is new to the engine
		case len(times) == 2:
			cost = out.CPU
		case out.CPU < cost*99/100 || out.CPU > cost*101/100:
			h.t.Errorf("the watched task cost %v, now %v", cost, out.CPU)
		}
		select {
		case <-over:
			if len(times) >= 10 {
				return times
			}
		default:
		}
	}
}

// play runs one program to its end.
func (h *corpusHost) play(p hostile) {
	code := p.code
	if !p.whole {
		code = "module.exports = async (input, { tools }) => { " + code + " }"
	}
	began, late := time.Now(), false
	out, err := h.Start(context.Background(), vm.StartParams{Frame: frame, Name: "task", Code: code})
	for n := 0; err == nil; n++ {
		h.bound(p, out, time.Since(began))
		late = p.harmless && h.late(out, time.Since(began))
		if out.Ended || n == len(p.replies) {
			break
		}
		began = time.Now()
		out, err = h.Resume(context.Background(), frame, out.Snapshot, p.replies[n])
	}
	if err != nil {
		h.t.Errorf("%s: %v", p.name, err)
		return
	}
	if got := ending(out); !late && p.err == "" && got != p.want || p.err != "" && !strings.HasPrefix(got, p.err) {
		h.t.Errorf("%s: %.300s\nwant %s%s", p.name, got, p.want, p.err)
	}
}

// late reports whether the clock stopped a slice that had not worked for long:
// the machine is busy with others.
func (h *corpusHost) late(out *vm.Outcome, wall time.Duration) bool {
	return ending(out) == tooLong && out.CPU < h.cpu && wall > 3*h.cpu
}

// ending is the result, or "CODE: message" of the error.
func ending(out *vm.Outcome) string {
	switch {
	case !out.Ended:
		return fmt.Sprintf("it waits for %v", out.Open)
	case out.Err != nil:
		return out.Err.Code + ": " + out.Err.Message
	}
	return string(out.Result)
}

// bound holds a slice to its limit: in work always, and by the clock, at which
// three times the limit may pass, in the long form.
func (h *corpusHost) bound(p hostile, out *vm.Outcome, wall time.Duration) {
	const tick = 10 * time.Millisecond // what one operation may cost at most, copying all memory
	if out.CPU > h.cpu+tick {
		h.t.Errorf("%s: computed for %v, its limit is %v", p.name, out.CPU, h.cpu)
	}
	if long && !p.harmless && wall > 3*h.cpu+250*time.Millisecond {
		h.t.Errorf("%s: took %v, its limit is %v", p.name, wall, h.cpu)
	}
	if wall > time.Second {
		h.t.Logf("%s: took %v", p.name, wall)
	}
}

// usage is what an engine and its process have.
type usage struct {
	VMs, Idle            int
	Memory, Heap, Mapped uint64 // in bytes: of idle VMs, of Go, of the process
}

func measure(e *vm.Engine) (u usage) {
	u.VMs, u.Idle, u.Memory = e.VMs()
	for range 2 { // pools keep what they have for one collection
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Heap = m.HeapAlloc
	if b, err := os.ReadFile("/proc/self/statm"); err == nil { // Linux
		var size, resident uint64
		if _, err := fmt.Sscan(string(b), &size, &resident); err == nil {
			u.Mapped = resident * uint64(os.Getpagesize())
		}
	}
	return u
}

// check compares with what was before: no VM but the idle ones, which are no
// more than may be, and no memory that grows. All the VMs of the corpus would be
// a gigabyte; the race detector keeps some for each byte touched.
func (u usage) check(t *testing.T, before usage) {
	t.Helper()
	if u.VMs != u.Idle || u.VMs > 3 || u.Memory > idleMemory {
		t.Errorf("VMs: %+v, before %+v", u, before)
	}
	if u.Heap > before.Heap+8<<20 || !raceDetector && u.Mapped > before.Mapped+128<<20 {
		t.Errorf("memory: %+v, before %+v", u, before)
	}
}
