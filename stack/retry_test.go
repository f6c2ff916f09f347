package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// flaky fails with errors one after another, and then answers with how many tries
// that took. slow answers after so many milliseconds, whatever its context says.
type flaky struct {
	mu     sync.Mutex
	errs   []error
	keys   []string
	policy service.Policy
}

func (f *flaky) Policy(service.Call) service.Policy { return f.policy }

func (f *flaky) Call(ctx context.Context, c service.Call, meta service.Meta) (json.RawMessage, error) {
	f.mu.Lock()
	f.keys = append(f.keys, meta.IdempotencyKey)
	n := len(f.keys)
	f.mu.Unlock()
	if c.Method() == "slow" {
		var ms float64
		_ = json.Unmarshal(c.Args()[0], &ms)
		time.Sleep(time.Duration(ms) * time.Millisecond) // what is tested: a service that does not listen
		return json.RawMessage(`"late"`), nil
	}
	if n <= len(f.errs) {
		return nil, f.errs[n-1]
	}
	return json.Marshal(n)
}

func (f *flaky) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.keys)
}

var quick = service.Policy{Retries: 3, First: time.Millisecond, Factor: 2, Most: 5 * time.Millisecond}

// TestRetries: what is tried again, how often, under which key, and what is kept of it.
func TestRetries(t *testing.T) {
	t.Parallel()
	down := &service.Error{Message: "down", Status: 503}
	for _, c := range []struct {
		name     string
		errs     []error
		code     string // of the task
		want     string // its result, or the message of its error
		tries    int
		attempts int
		key      string
	}{
		{"an error that passes", []error{down, down}, `await tools.flaky.go()`, `3`, 3, 2, ""},
		{"one of the network", []error{context.DeadlineExceeded}, `await tools.flaky.go()`, `2`, 2, 1, ""},
		{"no more than the policy says", []error{down, down, down, down, down}, `await tools.flaky.go()`, `down`, 4, 3, ""},
		{"as the task says", []error{down, down, down, down, down}, `await tools.with({ retries: 1 }).flaky.go()`, `down`, 2, 1, ""},
		{"not at all", []error{down}, `await tools.with({ retries: 0 }).flaky.go()`, `down`, 1, 0, ""},
		{"more than the policy", []error{down, down, down, down, down}, `await tools.with({ retries: 5, backoff: 1 }).flaky.go()`, `6`, 6, 5, ""},
		{"no other error", []error{errors.New("broke")}, `await tools.flaky.go()`, `broke`, 1, 0, ""},
		{"no 4xx", []error{&service.Error{Message: "bad", Status: 422}}, `await tools.flaky.go()`, `bad`, 1, 0, ""},
		{"429", []error{&service.Error{Message: "slow down", Status: 429, RetryAfter: 2 * time.Millisecond}}, `await tools.flaky.go()`, `2`, 2, 1, ""},
		{"a key of the task's own", []error{down}, `await tools.with({ idempotencyKey: 'mine' }).flaky.go()`, `2`, 2, 1, "t/mine"},
		{"no try that could not begin in time", []error{down, down}, `await tools.with({ backoff: 60000, timeout: 30000 }).flaky.go()`, `down`, 1, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => ` + c.code})
			f := &flaky{errs: c.errs, policy: quick}
			p, _ := d.host(func(cfg *stack.Config) { cfg.Services["flaky"] = f })
			r := d.run(p, "t", "null")
			if r.Status == stack.StatusCompleted {
				wantResult(t, r, c.want)
			} else if e := wantError(t, r, ""+codeOf(r)); e.Message != c.want {
				t.Errorf("failed with %q, want %q", e.Message, c.want)
			}
			keys := f.seen()
			if len(keys) != c.tries {
				t.Errorf("%d tries, want %d", len(keys), c.tries)
			}
			for _, k := range keys {
				if k != keys[0] || c.key != "" && k != c.key {
					t.Errorf("keys %q", keys)
				}
			}
			if n := d.count(`select count(*) from amber.attempts where not late and error is not null and next_at >= ended_at`); n != c.attempts {
				t.Errorf("%d attempts recorded, want %d", n, c.attempts)
			}
		})
	}
}

func codeOf(r stack.Run) string {
	var e service.Error
	_ = json.Unmarshal(r.Error, &e)
	return e.Code
}

// TestRetryElsewhere: between its tries a call costs nothing but its row: the host
// that made it may be gone.
func TestRetryElsewhere(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => await tools.with({ backoff: 1500, retries: 2 }).flaky.go()`})
	first := &flaky{errs: []error{&service.Error{Message: "down", Status: 500}}, policy: quick}
	p, stop := d.host(func(cfg *stack.Config) { cfg.Services["flaky"] = first })
	r, err := p.Start(t.Context(), stack.StartParams{Task: "t"})
	if err != nil {
		t.Fatal(err)
	}
	call := d.stackRun(`select id from stack_runs where parent_task_run_id = $1 and service_name = 'flaky' and status = 'sleeping'`, r.ID)
	if n := d.count(`select count(*) from stack_runs where id = $1 and claimed_by is null and due_at > now() - interval '1 second' and tries = 1`, call); n != 1 {
		t.Error("the call is held between its tries, or not due")
	}
	stop()
	second := &flaky{policy: quick}
	q, _ := d.host(func(cfg *stack.Config) { cfg.Services["flaky"] = second })
	wantResult(t, d.wait(q, r.ID), `1`)
	if a, b := first.seen(), second.seen(); len(a) != 1 || len(b) != 1 || a[0] != b[0] {
		t.Errorf("keys %q and %q, want one and the same", a, b)
	}
}

// TestRetryTask: a nested task begins anew when it fails, if its caller says so.
func TestRetryTask(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"outer": `module.exports = async (opts, { tools }) => {
			try { return await tools.with(opts).tasks.execute('inner', 7) } catch (e) { return e.name + ': ' + e.message } }`,
		"inner": `module.exports = async (i, { tools }) => {
			const n = await tools.flaky.go();
			await Promise.race([tools.sleep(60000), tools.sleep(1)]);
			if (n < 3) throw new Error('only ' + n);
			if (n === 9) throw new NonRetryableError('no more');
			return [i, n] }`,
	})
	f := &flaky{policy: quick}
	p, _ := d.host(func(cfg *stack.Config) { cfg.Services["flaky"] = f })
	wantResult(t, d.run(p, "outer", `{"retries": 4, "backoff": 1}`), `[7, 3]`)
	if n := d.count(`select count(*) from amber.attempts where error->>'message' like 'only %'`); n != 2 {
		t.Errorf("%d attempts recorded, want 2", n)
	}
	if n := d.count(`select count(*) from task_runs where task_name = 'inner' and attempt = 2 and status = 'completed'`); n != 1 {
		t.Error("the run does not tell its attempts")
	}
	f.mu.Lock()
	f.keys = make([]string, 1)
	f.mu.Unlock()
	wantResult(t, d.run(p, "outer", `{"retries": 0}`), `"Error: only 2"`)
	f.mu.Lock()
	f.keys = make([]string, 8)
	f.mu.Unlock()
	wantResult(t, d.run(p, "outer", `{"retries": 5, "backoff": 1}`), `"NonRetryableError: no more"`)
	if n := d.count(`select count(*) from stack_runs where status not in ('completed', 'failed', 'cancelled') or not delivered and call_id is not null`); n != 0 {
		t.Errorf("%d rows left:\n%s", n, d.dump())
	}
	if n := d.count(`select count(*) from amber.snapshots`); n != 0 {
		t.Errorf("%d snapshots left", n)
	}
}

// TestTimeout: a call that takes longer than it may is rejected, and its late answer
// is counted.
func TestTimeout(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"call": `module.exports = async (i, { tools }) => {
			try { return await tools.with({ timeout: 60 }).flaky.slow(400) }
			catch (e) { return [e.name, e.message, e.code, e instanceof TimeoutError, e instanceof Error, await tools.echo.value('on')] } }`,
		"retry": `module.exports = async (i, { tools }) => {
			try { return await tools.with({ timeout: 300, retries: 100, backoff: 1 }).flaky.go() } catch (e) { return e.name } }`,
		"child": `module.exports = async (i, { tools }) => {
			try { return await tools.with({ timeout: 1500 }).tasks.execute('sleeper', i) } catch (e) { return e.name + ' ' + e.code } }`,
		"sleeper": `module.exports = async (i, { tools }) => {
			try { await tools.sleep(60000); return 'slept' }
			catch (e) { console.log('caught ' + e.name); await tools.echo.value('tidy'); throw e } finally { console.log('tidied up') } }`,
		"sleep": `module.exports = async (i, { tools }) => { try { return await tools.with({ timeout: 30 }).sleep(60000) } catch (e) { return e.message } }`,
	})
	f := &flaky{policy: quick}
	p, _ := d.host(func(cfg *stack.Config) { cfg.Services["flaky"] = f })
	wantResult(t, d.run(p, "call", "null"), `["TimeoutError", "tools.flaky.slow took longer than 60 ms.", "TIMEOUT", true, true, "on"]`)
	d.eventually("the late answer is counted", func() bool { return d.count(`select count(*) from amber.attempts where late`) == 1 })
	wantResult(t, d.run(p, "child", "null"), `"TimeoutError TIMEOUT"`)
	if n := d.count(`select count(*) from amber.logs where message in ('caught TimeoutError', 'tidied up')`); n != 2 {
		t.Errorf("the child did not see why it was to end: %d lines", n)
	}
	if n := d.count(`select count(*) from task_runs where task_name = 'sleeper' and status = 'failed' and error->>'name' = 'TimeoutError'`); n != 1 {
		t.Error("the child's run did not fail with a TimeoutError")
	}
	wantResult(t, d.run(p, "sleep", "null"), `"tools.sleep took longer than 30 ms."`)
	f.mu.Lock()
	f.keys = nil
	for range 1000 {
		f.errs = append(f.errs, &service.Error{Message: "down", Status: 500, RetryAfter: 20 * time.Millisecond})
	}
	f.mu.Unlock()
	if r := d.run(p, "retry", "null"); string(r.Result) != `"Error"` && string(r.Result) != `"TimeoutError"` {
		t.Errorf("result %s", r.Result)
	}
}

// TestTimeoutAtOnce: a call is rejected for its time alone, and for nothing else,
// also where its service gives up or answers at that moment.
func TestTimeoutAtOnce(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"all": `module.exports = async (call, { tools }) => {
			const said = {};
			const t = call === 'listening' ? tools.with({ timeout: 5 }).listening : tools.with({ timeout: 60000 }).echo;
			for (let i = 0; i < 300; i++) {
				const text = await t.value('in time').catch((e) => e.name + ': ' + e.message);
				said[text] = (said[text] || 0) + 1;
			}
			return said }`,
	})
	p, _ := d.host(func(c *stack.Config) { c.Services["listening"] = new(listening) })
	wantResult(t, d.run(p, "all", `"listening"`), `{"TimeoutError: tools.listening.value took longer than 5 ms.": 300}`)
	wantResult(t, d.run(p, "all", `"echo"`), `{"in time": 300}`)
}

// TestBadOptions: what tools.with is given and is not understood rejects the call.
func TestBadOptions(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => {
		const said = [];
		for (const [opts, f] of [
			[{ retry: 1 }, (t) => t.echo.value(1)], [{ retries: -1 }, (t) => t.echo.value(1)], [{ retries: 1.5 }, (t) => t.echo.value(1)],
			[{ retries: '3' }, (t) => t.echo.value(1)], [{ timeout: 0 }, (t) => t.echo.value(1)], [{ timeout: 1e18 }, (t) => t.echo.value(1)],
			[{ idempotencyKey: '' }, (t) => t.echo.value(1)], [{ delay: 5 }, (t) => t.echo.value(1)], [{ retries: 1 }, (t) => t.sleep(1)],
			[{ scheduledFor: 'tomorrow' }, (t) => t.tasks.execute('t')], [{ priority: 1e6 }, (t) => t.tasks.execute('t')],
			[{ delay: 1, scheduledFor: '2031-01-31T08:00:00Z' }, (t) => t.tasks.execute('t')], [{ backoff: { first: 1, x: 2 } }, (t) => t.echo.value(1)],
			[{ idempotencyKey: 'k' }, (t) => t.tasks.execute('t')], [[], (t) => t.echo.value(1)],
		]) {
			try { await f(tools.with(opts)); said.push('no error: ' + JSON.stringify(opts)) } catch (e) { if (e.code !== 'INVALID_ARGUMENT') said.push(e.code + e.message) }
		}
		return [said, await tools.with({ retries: undefined, timeout: null }).echo.value(1)] }`})
	p, _ := d.host(nil)
	wantResult(t, d.run(p, "t", "null"), `[[], 1]`)
}

// TestTimeoutOfManyCalls: a call that has had its time is rejected with that, though
// its service gives up at the same moment.
func TestTimeoutOfManyCalls(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async (n, { tools }) => {
		const all = await Promise.allSettled(Array.from({ length: n }, (_, i) => tools.with({ timeout: 700 }).hangs.up()));
		return all.filter((r) => !(r.reason instanceof TimeoutError)).map((r) => String(r.reason)) }`})
	p, _ := d.host(func(c *stack.Config) { c.Services["hangs"] = hangs{} })
	wantResult(t, d.run(p, "t", "300"), `[]`)
}

// hangs is a service that answers when nobody wants its answer any more.
type hangs struct{}

func (hangs) Call(ctx context.Context, _ service.Call, _ service.Meta) (json.RawMessage, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestUnsentKey: the row of a call that was made and never sent shows the key that
// its task gave it.
func TestUnsentKey(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => { tools.with({ idempotencyKey: 'mine' }).echo.value(1) }`})
	p, _ := d.host(nil)
	d.run(p, "t", "null")
	if n := d.count(`select count(*) from stack_runs where service_name = 'echo' and idempotency_key = 't/mine'`); n != 1 {
		t.Error("the row has another key")
	}
}
