package vm

import (
	"context"
	"testing"
)

// BenchmarkLoad compares the ways to bring a task's code into a VM: compiling
// its source, reading the engine's bytecode, and restoring what compiling it left
// in memory, which is what [loaded] does.
func BenchmarkLoad(b *testing.B) {
	e := insideEngine(b, Options{})
	s, err := e.newVM(context.Background(), e.base, uint32(len(e.base.memory)))
	if err != nil {
		b.Fatal(err)
	}
	defer s.close(context.Background())
	s.slice = &slice{limits: e.options.Limits}
	ctx := context.WithValue(context.Background(), sandboxKey{}, s)
	src, refused := newSource("task", `
class Total { #sum = 0; add(n) { this.#sum += n; return this } get value() { return this.#sum } }
module.exports = async function (input, { tools }) {
  const total = new Total(), seen = new Map(), notes = [];
  for (let i = 0; ; i++) {
    const answer = await tools.shop.orders.get({ id: i });
    total.add(answer.price); seen.set(i % 8, answer.name); notes[i % 8] = 'order ' + i;
  }
}`)
	if refused != nil {
		b.Fatal(refused)
	}
	text := []byte(bodyHead + src.code + bodyTail)
	clean := func() {
		memory, _ := s.memory.Read(0, s.memory.Size())
		s.changes, s.known = differences(s.changes[:0], s.image, nil, memory), true
		s.reset()
	}

	bytecode := compileBytecode(b, ctx, s, src.file, text)
	clean()
	b.Run("source", func(b *testing.B) {
		for b.Loop() {
			v, err := s.eval(ctx, s.qjsEval, src.file, text, evalGlobal)
			if err != nil || v == s.image.Exception {
				b.Fatal(err)
			}
			b.StopTimer()
			clean()
			b.StartTimer()
		}
	})
	b.Run("bytecode", func(b *testing.B) {
		defer func() { b.ReportMetric(float64(len(bytecode)), "bytes") }()
		for b.Loop() {
			v, err := evalBytecode(ctx, s, src.file, bytecode)
			if err != nil || v == s.image.Exception {
				b.Fatal(err)
			}
			b.StopTimer()
			clean()
			b.StartTimer()
		}
	})
	v, err := s.eval(ctx, s.qjsEval, src.file, text, evalGlobal)
	if err != nil || v == s.image.Exception {
		b.Fatal(err)
	}
	kept, err := s.loaded(v)
	if err != nil {
		b.Fatal(err)
	}
	clean()
	b.Run("memory", func(b *testing.B) {
		defer func() { b.ReportMetric(float64(kept.size()), "bytes") }()
		memory, _ := s.memory.Read(0, s.memory.Size())
		for b.Loop() {
			kept.delta.restore(s.image, memory)
			b.StopTimer()
			clean()
			b.StartTimer()
		}
	})
}

// compileBytecode copies out what the engine writes of a compiled script.
func compileBytecode(b *testing.B, ctx context.Context, s *sandbox, file string, text []byte) []byte {
	b.Helper()
	code, err := s.newCString(ctx, text)
	if err != nil {
		b.Fatal(err)
	}
	name, err := s.newCString(ctx, []byte(file))
	if err != nil {
		b.Fatal(err)
	}
	options, err := s.invoke(ctx, s.evalOption, uint64(code), 0, 0, uint64(name), evalGlobal)
	if err != nil {
		b.Fatal(err)
	}
	result, err := s.export(ctx, "QJS_Compile2", uint64(s.image.Context), options)
	if err != nil || result == 0 {
		b.Fatal("no bytecode", err)
	}
	word, _ := s.memory.ReadUint64Le(uint32(result))
	view, ok := s.memory.Read(uint32(word>>32), uint32(word))
	if !ok {
		b.Fatal("no bytecode")
	}
	return append([]byte(nil), view...)
}

func evalBytecode(ctx context.Context, s *sandbox, file string, bytecode []byte) (uint64, error) {
	code, err := s.newCString(ctx, bytecode)
	if err != nil {
		return 0, err
	}
	name, err := s.newCString(ctx, []byte(file))
	if err != nil {
		return 0, err
	}
	options, err := s.invoke(ctx, s.evalOption, 0, uint64(code), uint64(len(bytecode)), uint64(name), evalGlobal)
	if err != nil {
		return 0, err
	}
	return s.invoke(ctx, s.qjsEval, uint64(s.image.Context), options)
}
