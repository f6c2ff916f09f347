package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

var heapTasks = map[string]string{
	// remembers waits with so many MiB that no compression makes smaller.
	"remembers": `module.exports = async (mib, { tools }) => {
		const held = new Uint32Array(mib << 18);
		for (let i = 0, x = Math.random() * 2 ** 31 | 1; i < held.length; i++) { x ^= x << 13; x ^= x >>> 17; held[i] = x ^= x << 5 }
		await tools.meet();
		await tools.echo.value(1);
		return held.length }`,
	// naps has timers that carry so many MiB together.
	"naps": `module.exports = async (mib, { tools }) => {
		await Promise.all(Array.from({ length: mib }, () => tools.sleep(1800, 'x'.repeat(1 << 20))));
		return mib }`,
}

// playHeap runs a task so many times at once, and prints how much larger the heap became.
func playHeap(ctx context.Context, c child) error {
	var task string
	var runs int64
	var mib string
	if _, err := fmt.Sscan(c.argument, &task, &runs, &mib); err != nil {
		return err
	}
	ring, err := keys.ParseRing(testKey)
	if err != nil {
		return err
	}
	e, err := vm.New(ctx, vm.Options{CacheDir: engineCache(), Keys: ring, Memory: 48 << 20, Concurrency: 2})
	if err != nil {
		return err
	}
	var came atomic.Int64
	all := make(chan struct{})
	p := c.processor(func(cfg *stack.Config) {
		cfg.Engine, cfg.Exclusive, cfg.Memory = e, true, 16<<20
		cfg.Services["meet"] = serviceFunc(func(ctx context.Context, _ service.Call) (json.RawMessage, error) {
			if came.Add(1) == runs {
				close(all)
			}
			select {
			case <-all:
			case <-ctx.Done():
			}
			return json.RawMessage("1"), ctx.Err()
		})
	})
	working, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- p.Run(working) }()
	<-p.Ready()
	var heap big
	heap.look()
	before := heap.most.Load()
	ids := make([]uuid.UUID, runs)
	for i := range ids {
		r, err := p.Start(ctx, stack.StartParams{Task: task, Input: json.RawMessage(mib)})
		if err != nil {
			return err
		}
		ids[i] = r.ID
	}
	ended := make(chan error, 1)
	go func() {
		for _, id := range ids {
			if r, err := p.Wait(ctx, id); err != nil || r.Status != stack.StatusCompleted {
				ended <- fmt.Errorf("run of %s is %s: %s, %v", task, r.Status, r.Error, err)
				return
			}
		}
		ended <- nil
	}()
	for {
		select {
		case err := <-ended:
			fmt.Println(heap.most.Load() - before)
			stop()
			return err
		case <-time.After(20 * time.Millisecond): // between two measurements
			heap.look()
		}
	}
}

// BenchmarkHeap: what bodies that wait hold does not grow with their number. It
// takes half a minute for each, and fails if it does.
func BenchmarkHeap(b *testing.B) {
	for _, c := range []struct {
		task           string
		mib, few, many int
	}{{"remembers", 3, 16, 48}, {"naps", 7, 6, 36}} {
		b.Run(c.task, func(b *testing.B) {
			d := newDB(b, heapTasks)
			heap := func(runs int) (bytes int) {
				b.Helper()
				cmd := d.command("heap", fmt.Sprint(c.task, " ", runs, " ", c.mib))
				cmd.Stderr = os.Stderr
				out, err := cmd.Output()
				if _, scanErr := fmt.Sscan(string(out), &bytes); err != nil || scanErr != nil {
					b.Fatalf("host: %v, %q\n%s", err, out, d.dump())
				}
				return bytes
			}
			for b.Loop() {
				few, many := heap(c.few), heap(c.many)
				b.ReportMetric(float64(few)/(1<<20), fmt.Sprintf("MiB/%d-runs", c.few))
				b.ReportMetric(float64(many)/(1<<20), fmt.Sprintf("MiB/%d-runs", c.many))
				if many > few+(c.many-c.few)*c.mib<<20/2 {
					b.Errorf("the heap grew by %d MiB for %d runs and by %d MiB for %d: runs that wait have %d MiB each", few>>20, c.few, many>>20, c.many, c.mib)
				}
			}
		})
	}
}
