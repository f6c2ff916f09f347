package vm_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/amberhost/amber/vm"
)

// BenchmarkStart runs a trivial task from start to result in a pooled VM.
func BenchmarkStart(b *testing.B) {
	p := vm.StartParams{Frame: frame, Name: "task", Code: `module.exports = async (input) => input.x`, Input: json.RawMessage(`{"x":1}`)}
	for b.Loop() {
		out, err := shared.Start(context.Background(), p)
		if err != nil || !out.Ended || out.Err != nil {
			b.Fatal(err, out)
		}
	}
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
	for b.Loop() {
		var err error
		if out, err = shared.Resume(context.Background(), frame, snap, []vm.Reply{answer}); err != nil || out.Snapshot == nil {
			b.Fatal(err, out)
		}
	}
	b.ReportMetric(float64(first), "bytes/first")
	b.ReportMetric(float64(len(out.Snapshot.Encode())), "bytes/next")
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

// BenchmarkNew is an engine with a warm compile cache: a process's start.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		e, err := vm.New(context.Background(), vm.Options{CacheDir: cacheDir(), Keys: ring()})
		if err != nil {
			b.Fatal(err)
		}
		e.Close(context.Background())
	}
}
