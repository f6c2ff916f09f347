package stack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/vm"
)

// decide answers a task that asks whether to loop.
type decide bool

func (d decide) Call(context.Context, service.Call, service.Meta) (json.RawMessage, error) {
	return json.Marshal(bool(d))
}

// playLooping is a host that leaves while a slice of it loops.
func playLooping(ctx context.Context, c child) error {
	p := c.processor(func(cfg *stack.Config) {
		cfg.Services["decide"], cfg.Drain = decide(true), 200*time.Millisecond
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	})
	working, leave := context.WithCancel(ctx)
	defer leave()
	done := make(chan error, 1)
	go func() { done <- p.Run(working) }()
	if _, err := c.waitFor(ctx, `select count(*) = 1 from stack_runs where service_name = 'decide' and status = 'processing'`); err != nil {
		return err
	}
	for begun := cpuTime(); cpuTime() < begun+500*time.Millisecond; { // one slice loops, and nothing else takes time
		time.Sleep(5 * time.Millisecond)
	}
	leave()
	return <-done
}

// waitFor polls until a query says true.
func (c child) waitFor(ctx context.Context, sql string) (ok bool, err error) {
	for err == nil && !ok && ctx.Err() == nil {
		err = c.pool.QueryRow(ctx, sql).Scan(&ok)
		time.Sleep(5 * time.Millisecond)
	}
	return ok, err
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano())
}

// TestDrainOfALoop: a host whose slice never ends leaves all the same, says
// which task it was, and another host goes on from the last snapshot.
func TestDrainOfALoop(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"looper": `module.exports = async (i, { tools }) => { const kept = 'kept'; if (await tools.decide.loop()) for (;;); return kept }`,
	})
	looper := d.enqueue("looper", "null")
	cmd := d.command("looping", "")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("drain time is over")) || !strings.Contains(string(out), "looper (stack_run") {
		t.Errorf("it does not say what it left:\n%s", out)
	}
	if n := d.count(`select count(*) from stack_runs where status = 'processing' or claimed_by is not null`); n != 0 {
		t.Errorf("%d rows are held by a host that left\n%s", n, d.dump())
	}
	p, _ := d.host(func(c *stack.Config) { c.Services["decide"] = decide(false) })
	wantResult(t, d.wait(p, looper), `"kept"`)
}

// TestLateCommit: what a slice brings after its host has released it changes nothing.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	d, e, host := newPair(t)
	body, err := d.store.Start(t.Context(), host, stack.StartParams{Task: "pair"}, true)
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.Start(t.Context(), vm.StartParams{Frame: body.ID, Name: "pair", Code: body.Code})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.store.Release(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	before := d.dump()
	if _, err := d.store.Suspend(t.Context(), host, stack.Suspension{ID: body.ID, TaskRun: body.TaskRun, Task: "pair",
		Slice: stack.Slice{Held: true}, Snapshot: out.Snapshot, Waits: 2}); err != stack.ErrClaimLost {
		t.Errorf("a late suspension: %v", err)
	}
	if _, err := d.store.Complete(t.Context(), host, stack.Ending{ID: body.ID, TaskRun: body.TaskRun,
		Reply: service.Reply{Value: json.RawMessage(`1`)}, Slice: stack.Slice{Held: true}}); err != stack.ErrClaimLost {
		t.Errorf("a late end: %v", err)
	}
	if after := d.dump(); after != before {
		t.Errorf("the rows changed\n%s\n%s", before, after)
	}
}

// TestLeavingHandsOver: while a call keeps a host from leaving, everything else
// of its runs goes on elsewhere, and nothing new begins there.
func TestLeavingHandsOver(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"double": `module.exports = async ({ n }) => n * 2`,
		"after":  `module.exports = async (i, { tools }) => [await tools.gate.pass('x'), await tools.tasks.execute('double', { n: 2 }), await tools.echo.value(5)]`,
		"other":  `module.exports = async (i, { tools }) => await tools.echo.value('other')`,
	})
	slow, quick := &gate{open: make(chan struct{})}, &gate{open: make(chan struct{})}
	var late atomic.Int64 // slices and calls that the leaving host began
	leaving, stop := d.host(func(c *stack.Config) {
		c.HostName, c.Drain, c.Lease = "leaving", time.Hour, time.Hour // nothing but its leaving gives rows back
		c.Services = map[string]service.Service{"gate": quick, "slow": slow, "echo": counting{&late}}
	})
	var runs []uuid.UUID
	for _, task := range []stack.StartParams{{Task: "after"}, {Task: "stay", Code: `module.exports = async (i, { tools }) => await tools.slow.pass('y')`}} {
		r, err := leaving.Start(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, r.ID)
	}
	d.eventually("the calls are made", func() bool { return quick.calls.Load() == 1 && slow.calls.Load() == 1 })
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	d.eventually("what it starts is queued", func() bool {
		r, err := leaving.Start(t.Context(), stack.StartParams{Task: "double", Input: json.RawMessage(`{"n":1}`)})
		return err == nil && r.Status == stack.StatusQueued
	})
	r, err := leaving.Start(t.Context(), stack.StartParams{Task: "other"})
	if err != nil || r.Status != stack.StatusQueued {
		t.Errorf("started through a host that leaves: %s %v", r.Status, err)
	}
	staying, _ := d.host(func(c *stack.Config) { c.HostName = "staying" })
	wantResult(t, d.wait(staying, r.ID), `"other"`)
	close(quick.open)
	wantResult(t, d.wait(staying, runs[0]), `["x",4,5]`)
	if late.Load() != 0 {
		t.Errorf("the leaving host began %d calls", late.Load())
	}
	select {
	case <-stopped:
		t.Error("the host did not wait for its call")
	default:
	}
	close(slow.open)
	<-stopped
	wantResult(t, d.wait(staying, runs[1]), `"y"`)
	if n := slow.calls.Load(); n != 1 {
		t.Errorf("the call that kept the host was made %d times", n)
	}
}

// counting is echo that counts.
type counting struct{ calls *atomic.Int64 }

func (c counting) Call(ctx context.Context, call service.Call, m service.Meta) (json.RawMessage, error) {
	c.calls.Add(1)
	return echo{}.Call(ctx, call, m)
}
