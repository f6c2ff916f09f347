package vm_test

import (
	"context"
	"encoding/json"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/amberhost/amber/vm"
)

// BenchmarkStart runs a trivial async task from start to result in a pooled VM.
func BenchmarkStart(b *testing.B) {
	p := vm.StartParams{Frame: frame, Name: "task", Code: `module.exports = async (input) => input.x`, Input: json.RawMessage(`{"x":1}`)}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		out, err := shared.Start(context.Background(), p)
		if err != nil || !out.Ended || out.Err != nil {
			b.Fatal(err, out)
		}
		took = append(took, time.Since(began))
	}
	reportQuantiles(b, took)
}

// reportCPU reports the processor time that each round took, which other work on
// the machine disturbs less than the clock.
func reportCPU(b *testing.B) (end func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := used()
	return func() { b.ReportMetric(float64((used()-began).Nanoseconds())/1000/float64(b.N), "cpu-µs/op") }
}

func reportQuantiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
}

const smallTask = `
class Total { #sum = 0; add(n) { this.#sum += n; return this } get value() { return this.#sum } }
module.exports = async function (input, { tools }) {
  const total = new Total(), seen = new Map(), notes = [];
  for (let i = 0; ; i++) {
    const answer = await tools.shop.orders.get({ id: i });
    total.add(answer.price); seen.set(i % 8, answer.name); notes[i % 8] = 'order ' + i;
  }
}`

// BenchmarkResume is one slice in steady state: restore, settle, run to the
// next await, snapshot.
func BenchmarkResume(b *testing.B) {
	out := start(b, smallTask, `{}`)
	first := len(out.Snapshot.Encode())
	answer := vm.Reply{}
	answer.Value = json.RawMessage(`{"price":12.5,"name":"a book"}`)
	for range 10 {
		answer.ID = out.Open[0]
		out = resume(b, out, answer)
	}
	answer.ID = out.Open[0]
	snap := out.Snapshot
	defer reportCPU(b)()
	for b.Loop() {
		var err error
		if out, err = shared.Resume(context.Background(), frame, snap, []vm.Reply{answer}); err != nil || out.Snapshot == nil {
			b.Fatal(err, out)
		}
	}
	b.ReportMetric(float64(first), "bytes/first")
	b.ReportMetric(float64(len(out.Snapshot.Encode())), "bytes/next")
}

// largeTask holds some 2 MB and changes a little of it between its awaits.
const largeTask = `
module.exports = async function (input, { tools }) {
  const orders = new Map();
  for (let i = 0; i < 8000; i++) orders.set('order ' + i, { id: i, price: i / 4, tags: ['new', 'tag ' + i % 9] });
  for (let i = 0; ; i++) {
    const answer = await tools.shop.orders.get({ id: i });
    for (let k = 0; k < 10; k++) orders.get('order ' + (i * 37 + k * 101) % 8000).price = answer.price + k;
  }
}`

// BenchmarkResumeLarge is the same for a body that holds 2 MB, from await to await.
func BenchmarkResumeLarge(b *testing.B) {
	out := start(b, largeTask, `{}`)
	first := len(out.Snapshot.Encode())
	answer := vm.Reply{}
	answer.Value = json.RawMessage(`{"price":12.5,"name":"a book"}`)
	written := 0
	for b.Loop() {
		var err error
		answer.ID = out.Open[0]
		if out, err = shared.Resume(context.Background(), frame, out.Snapshot, []vm.Reply{answer}); err != nil || out.Snapshot == nil {
			b.Fatal(err, out)
		}
		written += len(out.Snapshot.Encode())
	}
	b.ReportMetric(float64(first), "bytes/first")
	b.ReportMetric(float64(out.Snapshot.Size), "memory-bytes")
	b.ReportMetric(float64(written)/float64(b.N), "bytes/await")
}

// BenchmarkFirstAwait starts a small task and takes its first snapshot.
func BenchmarkFirstAwait(b *testing.B) {
	p := vm.StartParams{Frame: frame, Name: "task", Code: smallTask, Input: json.RawMessage(`{}`)}
	n := 0
	for b.Loop() {
		out, err := shared.Start(context.Background(), p)
		if err != nil || out.Snapshot == nil {
			b.Fatal(err, out)
		}
		n = len(out.Snapshot.Encode())
	}
	b.ReportMetric(float64(n), "bytes")
}

// BenchmarkNew is a process's start: from nothing to the first result of a task,
// with compiled code in the cache and without.
func BenchmarkNew(b *testing.B) {
	for name, dir := range map[string]string{"warm": cacheDir(), "cold": ""} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				e, err := vm.New(context.Background(), vm.Options{CacheDir: dir, Keys: ring()})
				if err != nil {
					b.Fatal(err)
				}
				if out := startAs(b, e, `module.exports = async () => 1`, ""); out.Err != nil {
					b.Fatal(out.Err)
				}
				e.Close(context.Background())
			}
		})
	}
}

// BenchmarkIdle is the memory that an idle VM takes: what of its pages is there.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		startAs(b, shared, `module.exports = async () => 1`, "")
	}
	pages, vms := shared.IdlePages()
	b.ReportMetric(float64(pages*4096)/float64(vms)/(1<<20), "MiB/VM")
}
