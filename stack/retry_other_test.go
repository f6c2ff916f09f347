package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// TestRetryRefused: which runs are not retried, and why.
func TestRetryRefused(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"ok":      `module.exports = async () => 1`,
		"waits":   `module.exports = async (i, { tools }) => await tools.sleep(3600000)`,
		"nesting": `module.exports = async (i, { tools }) => await tools.tasks.execute('fails')`,
		"fails":   `module.exports = async (i, { tools }) => { await tools.echo.value(1); throw new Error('no') }`,
	})
	p, _ := d.host(nil)
	refused := func(what string, run uuid.UUID, current bool, word string) {
		t.Helper()
		before := d.rows()
		_, err := p.Retry(t.Context(), run, current)
		var e *service.Error
		if !errors.As(err, &e) || e.Code != stack.CodeNotRetryable || e.Status != 409 || !strings.Contains(e.Message, word) {
			t.Errorf("%s: %v, want %q", what, err, word)
		}
		if after := d.rows(); before != after {
			t.Errorf("%s: something was changed:\n%s\n%s", what, before, after)
		}
	}
	refused("completed", d.run(p, "ok", "null").ID, false, "rerun")
	nesting := d.run(p, "nesting", "null")
	var nested uuid.UUID
	if err := d.pool.QueryRow(t.Context(), `select id from task_runs where parent_run_id = $1`, nesting.ID).Scan(&nested); err != nil {
		t.Fatal(err)
	}
	refused("nested", nested, false, nesting.ID.String())
	waits, err := p.Start(t.Context(), stack.StartParams{Task: "waits"})
	if err != nil {
		t.Fatal(err)
	}
	d.stackRun(`select id from stack_runs where child_task_run_id = $1 and status = 'suspended_waiting_child'`, waits.ID)
	refused("waiting", waits.ID, true, "not ended")
	if _, err := p.Cancel(t.Context(), waits.ID); err != nil {
		t.Fatal(err)
	}
	d.wait(p, waits.ID)
	refused("cancelled", waits.ID, false, "current code")
	failed := d.run(p, "fails", "null")
	d.exec(`delete from amber.snapshots where stack_run_id = (select id from stack_runs where child_task_run_id = $1)`, failed.ID)
	refused("of an earlier version", failed.ID, false, "current code")
	if _, err := p.Retry(t.Context(), uuid.New(), false); err != stack.ErrRunNotFound {
		t.Errorf("no run: %v", err)
	}
	if _, err := p.Rerun(t.Context(), uuid.New()); err != stack.ErrRunNotFound {
		t.Errorf("no run: %v", err)
	}
	// What was cancelled begins anew if it is asked to.
	d.exec(`delete from task_functions where name = 'fails'`)
	before := d.rows()
	var e *service.Error
	if _, err := p.Retry(t.Context(), failed.ID, true); !errors.As(err, &e) || e.Code != service.CodeTaskNotFound || d.rows() != before {
		t.Errorf("with code that is not there: %v", err)
	}
	d.publish(map[string]string{"waits": `module.exports = async () => 'anew'`})
	if _, err := p.Retry(t.Context(), waits.ID, true); err != nil {
		t.Fatal(err)
	}
	wantResult(t, d.wait(p, waits.ID), `"anew"`)
}

// rows is all that a retry may change.
func (d *db) rows() (text string) {
	d.t.Helper()
	err := d.pool.QueryRow(context.Background(), `select string_agg(line, E'\n' order by line) from (
		select s::text as line from stack_runs s where status in ('completed', 'failed', 'cancelled') union all select t::text from task_runs t where status in ('completed', 'failed', 'cancelled')
		union all select a::text from amber.attempts a union all select f::text from amber.failures f) x`).Scan(&text)
	if err != nil {
		d.t.Fatal(err)
	}
	return text
}

// TestRetryCurrentCode: with the code that is published now a run begins anew, with the
// exact input; without, it goes on with the code that it has.
func TestRetryCurrentCode(t *testing.T) {
	t.Parallel()
	const echoes = `module.exports = async (input, { tools }) => { const a = (await tools.shop.do('a')).name; await tools.shop.do('b'); `
	d := newDB(t, map[string]string{"t": echoes + `throw new Error('old') }`})
	s := newShop()
	p, _ := d.host(func(cfg *stack.Config) { cfg.Services["shop"] = s })
	const input = `{"z":-0,"a":[1.50,"\u007f"],"b":1e2}`
	r := d.run(p, "t", input)
	d.publish(map[string]string{"t": echoes + `return [Object.keys(input), Object.is(input.z, -0)] }`})
	if _, err := p.Retry(t.Context(), r.ID, false); err != nil {
		t.Fatal(err)
	}
	if e := wantError(t, d.wait(p, r.ID), ""); e.Message != "old" {
		t.Errorf("failed with %q", e.Message)
	}
	if n := len(s.keys("b")); n != 1 {
		t.Errorf("%d calls, want none again", n)
	}
	if _, err := p.Retry(t.Context(), r.ID, true); err != nil {
		t.Fatal(err)
	}
	wantResult(t, d.wait(p, r.ID), `[["z", "a", "b"], true]`)
	if keys := s.keys("b"); len(keys) != 2 || distinct(keys) != 2 {
		t.Errorf("keys %q, want two", keys)
	}
	d.clean()

	again, err := p.Rerun(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if again.ID == r.ID {
		t.Error("a rerun is the same run")
	}
	wantResult(t, d.wait(p, again.ID), `[["z", "a", "b"], true]`)
	recorded, err := d.store.Recorded(t.Context(), again.ID)
	if err != nil || string(recorded.Input) != input {
		t.Errorf("the input is %s, want %s (%v)", recorded.Input, input, err)
	}
	// A run that brought its code along runs that.
	own, err := p.Start(t.Context(), stack.StartParams{Task: "mine", Code: `module.exports = async (i, { tools }) => { await tools.echo.value(1); if (i.bad) throw new Error('bad'); return i }`,
		Input: json.RawMessage(`{"bad":true}`), Priority: 7, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, d.wait(p, own.ID), "")
	for _, current := range []bool{false, true} {
		if _, err := p.Retry(t.Context(), own.ID, current); err != nil {
			t.Fatal(err)
		}
		wantError(t, d.wait(p, own.ID), "")
	}
	other, err := p.Rerun(t.Context(), own.ID)
	if err != nil {
		t.Fatal(err)
	}
	if e := wantError(t, d.wait(p, other.ID), ""); e.Message != "bad" {
		t.Errorf("failed with %q", e.Message)
	}
	if n := d.count(`select count(*) from task_runs where id = $1 and priority = 7 and deadline_at - created_at between interval '59 minutes' and interval '61 minutes'`, other.ID); n != 1 {
		t.Error("the rerun has another priority or time")
	}
}

// TestRetryTimeout: a run that had its time, and did not come to see that, gets all of
// it again, and so do its calls.
func TestRetryTimeout(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"t":     `module.exports = async (i, { tools }) => [(await tools.shop.do('a')).name, await tools.tasks.execute('inner')]`,
		"inner": `module.exports = async (i, { tools }) => (await tools.shop.do('hang')).name`,
		"call":  `module.exports = async (i, { tools }) => (await tools.with({ timeout: 1500 }).shop.do('hang')).name`,
		"tidy":  `module.exports = async (i, { tools }) => { try { await tools.shop.do('hang') } finally { await tools.echo.value(1) } }`,
	})
	s := newShop("hang")
	p, _ := d.host(func(cfg *stack.Config) { cfg.Services["shop"] = s })
	failed := map[string]uuid.UUID{}
	for _, task := range []string{"t", "call", "tidy"} {
		params := stack.StartParams{Task: task, Timeout: 1500 * time.Millisecond}
		if task == "call" {
			params.Timeout = 0
		}
		r, err := p.Start(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, d.wait(p, r.ID), service.CodeTimeout)
		failed[task] = r.ID
	}
	s.repair()
	for task, want := range map[string]string{"t": `["a", "hang"]`, "call": `"hang"`} {
		if _, err := p.Retry(t.Context(), failed[task], false); err != nil {
			t.Fatal(err)
		}
		wantResult(t, d.wait(p, failed[task]), want)
	}
	var e *service.Error
	if _, err := p.Retry(t.Context(), failed["tidy"], false); !errors.As(err, &e) || e.Code != stack.CodeNotRetryable {
		t.Errorf("a run that began to tidy up: %v", err)
	}
	if n := d.count(`select count(*) from task_runs where id = $1 and deadline_at > ended_at and interval '5 seconds' > deadline_at - ended_at`, failed["t"]); n != 1 {
		t.Error("the run does not have its time again")
	}
	if n := len(s.keys("a")); n != 1 {
		t.Errorf("%d calls of what had its answer", n)
	}
}

// TestRetryKilled: hosts that die at each suspension of a retried run change nothing.
func TestRetryKilled(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"t":     `module.exports = async (i, { tools }) => { const a = await tools.echo.value('a'); return [a, await tools.tasks.execute('inner', 'b'), await tools.echo.value('c')] }`,
		"inner": `module.exports = async (i, { tools }) => { await tools.echo.value(1); const r = await tools.echo.value(i); const all = await Promise.all([tools.sleep(30), tools.tasks.execute('leaf')]); return [r, all[1]] }`,
		"leaf":  `module.exports = async (i, { tools }) => { await tools.echo.value(2); const l = await tools.echo.value('late'); await tools.sleep(1); return l }`,
	})
	p, stop := d.host(func(cfg *stack.Config) { cfg.Services["echo"] = breaks{} })
	r := d.run(p, "t", "null")
	wantError(t, r, service.CodeServiceError)
	stop()
	if err := d.store.RetryRun(t.Context(), r.ID, false); err != nil {
		t.Fatal(err)
	}
	deaths := d.seeThrough(r.ID)
	if deaths < 1 { // where it waits when is a matter of luck
		t.Errorf("%d hosts died", deaths)
	}
	r, err := d.store.Run(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, r, `["a", ["b", "late"], "c"]`)
	d.clean()
}

// breaks is echo, but late fails.
type breaks struct{ echo }

func (b breaks) Call(ctx context.Context, c service.Call, meta service.Meta) (json.RawMessage, error) {
	if string(c.Args()[0]) == `"late"` {
		return nil, errors.New("too late")
	}
	return b.echo.Call(ctx, c, meta)
}

// TestRetryAtOnce: of many who retry a run at once, one does.
func TestRetryAtOnce(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => { await tools.echo.value(1); throw new Error('no') }`})
	p, stop := d.host(nil)
	r := d.run(p, "t", "null")
	stop()
	var won, lost int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			err := d.store.RetryRun(t.Context(), r.ID, false)
			mu.Lock()
			defer mu.Unlock()
			var e *service.Error
			if err == nil {
				won++
			} else if errors.As(err, &e) && e.Code == stack.CodeNotRetryable {
				lost++
			}
		})
	}
	all.Wait()
	if won != 1 || lost != 7 {
		t.Errorf("%d retried it, %d were refused", won, lost)
	}
}

// TestClearedTimer: a timer that a task gives up in its last slice does not outlive it.
func TestClearedTimer(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => { const t = setTimeout(() => {}, 3600000); await tools.echo.value(1); clearTimeout(t); return 2 }`})
	p, _ := d.host(nil)
	wantResult(t, d.run(p, "t", "null"), `2`)
	d.clean()
}

// TestRetrySealed: what is kept of a run that failed is sealed, and can be sealed anew.
func TestRetrySealed(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-hunter2-hunter2"
	d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => { const s = (await tools.safe.open(1)).toUpperCase(); await tools.shop.do('b'); return s.length }`})
	s := newShop("b")
	services := func(cfg *stack.Config) { cfg.Services["shop"], cfg.Services["safe"] = s, safe{secret} }
	p, stop := d.host(services)
	r := d.run(p, "t", "null")
	wantError(t, r, service.CodeServiceError)
	stop()
	if n := d.count(`select count(*) from amber.snapshots`); n != 1 {
		t.Fatalf("%d snapshots are kept, want one", n)
	}
	for _, table := range []string{"stack_runs", "task_runs", "amber.snapshots", "amber.replies", "amber.failures", "amber.attempts"} {
		for _, text := range []string{secret, strings.ToUpper(secret)} {
			if n := d.count(`select count(*) from `+table+` t where position($1 in t::text) > 0 or position(encode($2, 'hex') in t::text) > 0`, text, []byte(text)); n != 0 {
				t.Errorf("%s has the secret in %d rows", table, n)
			}
		}
	}
	store, _ := d.withRing(newKey + "," + testKey)
	for {
		n, err := store.Reseal(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	s.repair()
	_, newOnly := d.withRing(newKey)
	p, _ = d.host(func(cfg *stack.Config) { services(cfg); newOnly(cfg) })
	if _, err := p.Retry(t.Context(), r.ID, false); err != nil {
		t.Fatal(err)
	}
	wantResult(t, d.wait(p, r.ID), fmt.Sprint(len(secret)))
	d.clean()
}

// safe answers with a secret.
type safe struct{ secret string }

func (s safe) Call(context.Context, service.Call, service.Meta) (json.RawMessage, error) {
	return json.Marshal(s.secret)
}

func (safe) Secret(service.Call) (args, reply bool) { return false, true }
