package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// shop answers do(name) with how many calls it has had, but fails for names that are
// broken, and hangs for those that hang until its host goes.
type shop struct {
	mu     sync.Mutex
	broken map[string]bool
	calls  []string // name and key, in order
	hung   chan string
}

func newShop(broken ...string) *shop {
	s := &shop{broken: map[string]bool{}, hung: make(chan string, 100)}
	for _, name := range broken {
		s.broken[name] = true
	}
	return s
}

func (s *shop) Call(ctx context.Context, c service.Call, meta service.Meta) (json.RawMessage, error) {
	var name string
	_ = json.Unmarshal(c.Args()[0], &name)
	s.mu.Lock()
	s.calls = append(s.calls, name+" "+meta.IdempotencyKey)
	n, broken := len(s.calls), s.broken[name]
	s.mu.Unlock()
	if strings.HasPrefix(name, "hang") && broken {
		s.hung <- name
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if broken {
		return nil, fmt.Errorf("%s is broken", name)
	}
	return json.RawMessage(fmt.Sprintf(`{"z":-0,"a":%d,"name":%q}`, n, name)), nil
}

func (s *shop) repair() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.broken, func(name string, _ bool) bool { return !strings.HasPrefix(name, "hangs") }) // these lose each race
}

// keys are those under which name was called, in order.
func (s *shop) keys(name string) (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, call := range s.calls {
		if rest, ok := strings.CutPrefix(call, name+" "); ok {
			keys = append(keys, rest)
		}
	}
	return keys
}

// distinct is how many different ones there are.
func distinct(texts []string) int {
	slices.Sort(texts)
	return len(slices.Compact(texts))
}

const retryPrelude = `
	module.exports = async (input, { tools }) => {
		const go = async (name) => { const r = await tools.shop.do(name); console.log('got ' + name + ' ' + JSON.stringify(r)); return r.name };
		`

// TestRetryRun: what a retried run does again, and what it does not.
func TestRetryRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		tasks  map[string]string // bodies of functions
		broken []string
		want   string         // the result of the retried run
		calls  map[string]int // how often what was called
		keys   map[string]int // under how many keys, if not one
	}{
		{"a call failed",
			map[string]string{"t": `const a = await go('a'), b = await go('b'); return [a, b, await go('c')]`}, []string{"b"},
			`["a", "b", "c"]`, map[string]int{"a": 1, "b": 2, "c": 1}, map[string]int{"b": 2}},
		{"the first call failed",
			map[string]string{"t": `return [await go('b'), await go('c')]`}, []string{"b"},
			`["b", "c"]`, map[string]int{"b": 2, "c": 1}, map[string]int{"b": 2}},
		{"with a key of the task's own",
			map[string]string{"t": `const r = await tools.with({ idempotencyKey: 'mine' }).shop.do('b'); return r.name`}, []string{"b"},
			`"b"`, map[string]int{"b": 2}, nil},
		{"one of several failed, others are done or open",
			map[string]string{"t": `const a = await go('a'); const later = tools.sleep(300);
				const all = await Promise.all([go('x'), go('b'), tools.sleep(20), go('y')]); await later; return [a, all[0], all[1], all[3]]`}, []string{"b"},
			`["a", "x", "b", "y"]`, map[string]int{"a": 1, "b": 2}, map[string]int{"b": 2}},
		{"several failed",
			map[string]string{"t": `await go('a'); return await Promise.all([go('b'), go('c'), go('d')])`}, []string{"b", "c", "d"},
			`["b", "c", "d"]`, map[string]int{"a": 1}, map[string]int{"b": 2, "c": 2, "d": 2}},
		{"a race with losers",
			map[string]string{"t": `await Promise.race([tools.sleep(3600000), go('a')]); await Promise.race([go('hang1'), go('b')]); return 'over'`}, []string{"b", "hang1"},
			`"over"`, map[string]int{"a": 1, "b": 2}, map[string]int{"b": 2}},
		{"a caught failure is not repaired",
			map[string]string{"t": `let n = 0; try { await go('b') } catch { n++ } await go('a'); return [n, await go('c')]`}, []string{"b", "c"},
			`[1, "c"]`, map[string]int{"a": 1, "b": 1, "c": 2}, map[string]int{"c": 2}},
		{"deep down",
			map[string]string{
				"t":      `const a = await go('a'); return [a, await tools.tasks.execute('middle', 1), await go('z')]`,
				"middle": `const m = await go('m'); return [m, await tools.tasks.execute('leaf', 2), await go('y')]`,
				"leaf":   `const l = await go('l'); return [l, await go('b')]`,
			}, []string{"b"},
			`["a", ["m", ["l", "b"], "y"], "z"]`, map[string]int{"a": 1, "m": 1, "l": 1, "b": 2, "y": 1, "z": 1}, map[string]int{"b": 2}},
		{"beside a nested task that was open",
			map[string]string{
				"t":     `const a = await go('a'); return await Promise.all([tools.tasks.execute('other', 1), (async () => { await tools.sleep(150); return await go('b') })()])`,
				"other": `const o = await go('o'); await tools.sleep(700); return o`,
			}, []string{"b"},
			`["o", "b"]`, map[string]int{"a": 1, "b": 2}, map[string]int{"b": 2}},
		{"a nested task caught, then another failed",
			map[string]string{
				"t":    `let n = 0; try { await tools.tasks.execute('leaf', 'b') } catch { n++ } await go('a'); return [n, await tools.tasks.execute('leaf', 'c')]`,
				"leaf": `await go('l'); return await go(input)`,
			}, []string{"b", "c"},
			`[1, "c"]`, map[string]int{"a": 1, "b": 1, "c": 2, "l": 2}, map[string]int{"c": 2, "l": 2}},
		{"a nested task failed before it waited",
			map[string]string{
				"t":    `await go('a'); const r = await tools.tasks.execute('leaf', 1); return r`,
				"leaf": `throw new Error('not yet')`,
			}, nil, `"now"`, map[string]int{"a": 1}, nil},
		{"unsent calls",
			map[string]string{"t": `const a = await go('a'); try { await go('b') } catch (e) { go('y'); tools.tasks.execute('t'); throw e } return [a, await go('c'), await go('d')]`},
			[]string{"b"}, `["a", "c", "d"]`, map[string]int{"a": 1, "b": 2, "y": 0, "c": 1, "d": 1}, map[string]int{"b": 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tasks := map[string]string{}
			for name, body := range c.tasks {
				tasks[name] = retryPrelude + body + "\n}"
			}
			d := newDB(t, tasks)
			s := newShop(c.broken...)
			p, _ := d.host(func(cfg *stack.Config) { cfg.Services["shop"] = s })
			r := d.run(p, "t", `{"in":1}`)
			if r.Status != stack.StatusFailed {
				t.Fatalf("the run is %s", r.Status)
			}
			kept := d.ended()
			again, err := p.Retry(t.Context(), r.ID, false)
			if err != nil {
				t.Fatal(err)
			}
			if again.ID != r.ID {
				t.Errorf("another run: %s", again.ID)
			}
			if r = d.wait(p, r.ID); r.Status != stack.StatusFailed { // it was retried before anything was repaired
				t.Fatalf("the run is %s: %s %s", r.Status, r.Result, r.Error)
			}
			s.repair()
			if _, ok := c.tasks["leaf"]; ok && len(c.broken) == 0 {
				d.publish(map[string]string{"leaf": `module.exports = () => 'now'`})
			}
			if _, err := p.Retry(t.Context(), r.ID, false); err != nil {
				t.Fatal(err)
			}
			r = d.wait(p, r.ID)
			wantResult(t, r, c.want)
			for name, n := range c.calls {
				want, extra := n, 0
				if n > 1 && slices.Contains(c.broken, name) {
					extra = 1 // for the retry in between
				}
				if got := len(s.keys(name)); got != want+extra {
					t.Errorf("%s was called %d times, want %d", name, got, want+extra)
				}
			}
			for name := range c.calls {
				keys := s.keys(name)
				want := len(keys)
				if c.keys[name] == 0 {
					want = min(want, 1)
				}
				if got := distinct(keys); got != want {
					t.Errorf("%s was called under %d keys of %d calls, want %d", name, got, len(keys), want)
				}
			}
			for id, was := range kept {
				if is := d.ended()[id]; is != was && !d.attempted(id) {
					t.Errorf("the end of %s was %s, is %s", id, was, is)
				}
			}
			d.clean()
		})
	}
}

// ended is how the calls that have ended did, by id.
func (d *db) ended() map[uuid.UUID]string {
	d.t.Helper()
	rows, err := d.pool.Query(context.Background(), `
		select s.id, concat_ws(' ', s.status, s.result, s.error, s.ended_at, s.idempotency_key, md5(r.data))
		from stack_runs s left join amber.replies r on r.stack_run_id = s.id and r.kind = 'reply' where s.status in ('completed', 'failed', 'cancelled')`)
	if err != nil {
		d.t.Fatal(err)
	}
	defer rows.Close()
	out := map[uuid.UUID]string{}
	for rows.Next() {
		var id uuid.UUID
		var text string
		if err := rows.Scan(&id, &text); err != nil {
			d.t.Fatal(err)
		}
		out[id] = text
	}
	return out
}

// attempted reports whether a retry took the row up again.
func (d *db) attempted(id uuid.UUID) bool {
	return d.count(`select count(*) from amber.attempts where stack_run_id = $1 and retry is not null`, id) > 0
}

// clean fails the test unless nothing is left of work, nor kept of what can be no more.
func (d *db) clean() {
	d.t.Helper()
	if n := d.count(`select count(*) from stack_runs where status not in ('completed', 'failed', 'cancelled')`); n != 0 {
		d.t.Errorf("%d rows left:\n%s", n, d.dump())
	}
	if n := d.count(`select (select count(*) from amber.snapshots) + (select count(*) from amber.failures)`); n != 0 {
		d.t.Errorf("%d snapshots and failures left", n)
	}
	if n := d.count(`select count(*) from (select from stack_runs where call_id is not null group by parent_stack_run_id, call_id having count(*) > 1) twice`); n != 0 {
		d.t.Errorf("%d calls have two rows", n)
	}
	if n := d.count(`select count(*) from stack_runs where status in ('completed', 'failed') and not exists (select from amber.replies r where r.stack_run_id = id and kind = 'reply')`); n != 0 {
		d.t.Errorf("%d replies are missing", n)
	}
	if n := d.count(`select count(*) from task_runs where status not in ('completed', 'failed', 'cancelled') or ended_at is null`); n != 0 {
		d.t.Errorf("%d runs have not ended", n)
	}
}

// TestRetryThrown: where the code threw, the slice is given what it was given before,
// to the byte and in the same order.
func TestRetryThrown(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"t": retryPrelude + `const text = JSON.stringify([await go('a')]);
			const seen = []; const note = (n) => (r) => { seen.push(n + Object.keys(r) + Object.is(r.z, -0)) };
			await Promise.all(['c', 'b', 'd', 'e'].map((n) => tools.shop.do(n).then(note(n))));
			console.log('seen ' + seen.join(' '));
			throw new Error('thrown ' + text) }`,
		"pieces": `module.exports = async (i, { tools }) => { const order = []; const l = await tools.slow.late('x');
			await Promise.all([1, 2, 3].map((n) => tools.slow.late(n).then(() => order.push(n)))); console.log('order ' + order); null.x }`,
		"first": `module.exports = () => { throw new Error('at once') }`,
	})
	s := newShop()
	p, _ := d.host(func(cfg *stack.Config) { cfg.Services["shop"], cfg.Services["slow"] = s, backwards{} })
	for _, task := range []string{"t", "pieces", "first"} {
		r := d.run(p, task, "null")
		const tries = 4
		for range tries - 1 {
			first := r.Error
			if _, err := p.Retry(t.Context(), r.ID, false); err != nil {
				t.Fatal(err)
			}
			if r = d.wait(p, r.ID); string(r.Error) != string(first) || r.Status != stack.StatusFailed {
				t.Errorf("%s: %s %s, then %s", task, r.Status, first, r.Error)
			}
		}
		if n := d.count(`select count(distinct message) from amber.logs where task_run_id = $1 and message ~ '^(seen|order)'`, r.ID); task != "first" && n != 1 {
			t.Errorf("%s: %d different logs", task, n)
		}
		if n := d.count(`select attempt from task_runs where id = $1`, r.ID); n != tries-1 {
			t.Errorf("%s: the run tells %d retries, want %d", task, n, tries-1)
		}
		if n := d.count(`select count(*) from amber.attempts a join stack_runs s on s.id = a.stack_run_id where s.child_task_run_id = $1
				and a.error is not null and a.retry = case when $2 then 'anew' else 'resume' end`, r.ID, task == "first"); n != tries-1 {
			t.Errorf("%s: %d attempts are recorded, want %d", task, n, tries-1)
		}
	}
	if n := len(s.keys("a")); n != 1 {
		t.Errorf("an effect was repeated: %d calls", n)
	}
	if n := d.count(`select count(*) from amber.snapshots`); n == 0 {
		t.Error("what failed keeps no snapshot")
	}
}

// TestRetryTimer: a timer that took longer than it might goes on to sleep: it does not
// fire early because its run is retried.
func TestRetryTimer(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => await tools.with({ timeout: 50 }).sleep(3600000)`})
	p, _ := d.host(func(c *stack.Config) { c.Sweep = 50 * time.Millisecond })
	r := d.run(p, "t", "null")
	for range 2 {
		wantError(t, r, service.CodeTimeout)
		if _, err := p.Retry(t.Context(), r.ID, false); err != nil {
			t.Fatal(err)
		}
		r = d.wait(p, r.ID)
	}
	wantError(t, r, service.CodeTimeout)
}

// backwards answers calls that were made later sooner.
type backwards struct{}

func (backwards) Call(_ context.Context, c service.Call, _ service.Meta) (json.RawMessage, error) {
	var n int
	_ = json.Unmarshal(c.Args()[0], &n)
	time.Sleep(time.Duration(4-n) * 30 * time.Millisecond) // what is tested: an order other than that of the calls
	return c.Args()[0], nil
}
