package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// stackRun is the id of the row that a query finds, once there is one.
func (d *db) stackRun(sql string, args ...any) (id uuid.UUID) {
	d.t.Helper()
	d.eventually("there is a row", func() bool {
		return d.pool.QueryRow(d.t.Context(), sql, args...).Scan(&id) == nil
	})
	return id
}

const (
	callOf = `select id from stack_runs where parent_task_run_id = $1 and call_id is not null and status in ('processing', 'sleeping') order by call_id limit 1`
	bodyOf = `select id from stack_runs where child_task_run_id = $1 and status = 'suspended_waiting_child'`
)

// TestInject: an answer from outside takes the place of the service's,
// wherever and however the call is held.
func TestInject(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"sleep": `module.exports = async (i, { tools }) => ['got', await tools.sleep(3600000)]`,
		"gate":  `module.exports = async (i, { tools }) => ['got', await tools.gate.pass('late'), await tools.echo.value(2)]`,
		"outer": `module.exports = async (i, { tools }) => ['outer', await tools.tasks.execute('sleep')]`,
		"two":   `module.exports = async (i, { tools }) => await Promise.all([tools.sleep(3600000), tools.gate.pass(1)])`,
	})
	g := &gate{open: make(chan struct{})}
	with := func(c *stack.Config) { c.Services["gate"] = g }
	p, _ := d.host(with)
	other, _ := d.host(with)
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	idle := stack.NewProcessor(stack.Config{Store: d.store, Engine: e, HostName: "idle"})
	start := func(task string) uuid.UUID {
		t.Helper()
		r, err := p.Start(t.Context(), stack.StartParams{Task: task})
		if err != nil {
			t.Fatal(err)
		}
		d.stackRun(bodyOf, r.ID)
		return r.ID
	}
	call := func(run uuid.UUID) uuid.UUID { return d.stackRun(callOf, run) }
	body := func(run uuid.UUID) uuid.UUID { return d.stackRun(bodyOf, run) }
	itself := func(run uuid.UUID) uuid.UUID { return run }
	nested := func(run uuid.UUID) uuid.UUID {
		return d.stackRun(`select b.id from stack_runs b join stack_runs c on c.parent_stack_run_id = b.id
			where b.parent_task_run_id = $1 and c.status = 'sleeping'`, run)
	}
	for _, c := range []struct {
		name, task string
		by         *stack.Processor
		id         func(uuid.UUID) uuid.UUID
		want       string
	}{
		{"a timer", "sleep", p, call, `["got", {"in": "jected"}]`},
		{"a body's only call", "sleep", p, body, `["got", {"in": "jected"}]`},
		{"a run's only call", "sleep", p, itself, `["got", {"in": "jected"}]`},
		{"a call in flight here", "gate", p, call, `["got", {"in": "jected"}, 2]`},
		{"a call in flight elsewhere", "gate", other, body, `["got", {"in": "jected"}, 2]`},
		{"by a host that does not run", "gate", idle, call, `["got", {"in": "jected"}, 2]`},
		{"a nested body's only call", "outer", p, nested, `["outer", ["got", {"in": "jected"}]]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := start(c.task)
			id := c.id(run)
			if _, err := c.by.Inject(t.Context(), id, json.RawMessage(`{"in": "jected"}`)); err != nil {
				t.Fatal(err)
			}
			wantResult(t, d.wait(p, run), c.want)
			if _, err := c.by.Inject(t.Context(), id, nil); !errors.Is(err, stack.ErrNotWaiting) {
				t.Errorf("a second answer: %v", err)
			}
		})
	}
	two, outer := start("two"), start("outer")
	for name, refuse := range map[string]struct {
		id    uuid.UUID
		value string
	}{
		"two calls":                       {body(two), `1`},
		"a nested task":                   {body(outer), `1`},
		"no JSON":                         {call(two), `{`},
		"JSON that jsonb cannot hold":     {call(two), `"\u0000"`},
		"a number that jsonb cannot hold": {call(two), `1e999999`},
	} {
		_, err := p.Inject(t.Context(), refuse.id, json.RawMessage(refuse.value))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantCode(t, err, service.CodeInvalidArgument)
	}
	if _, err := p.Inject(t.Context(), uuid.New(), nil); !errors.Is(err, stack.ErrRunNotFound) {
		t.Errorf("an unknown row: %v", err)
	}
	close(g.open) // the services answer, most of them too late
	own := uuid.New()
	d.exec(`insert into stack_runs (id, service_name, method_name, args, stuck_reason) values ($1, 'echo', 'value', '[1]', 'lame')`, own)
	if body, err := p.Inject(t.Context(), own, json.RawMessage(`5`)); err != nil || body != uuid.Nil {
		t.Errorf("a call of no task: %v %v", body, err)
	}
	if n := d.count(`select count(*) from stack_runs where id = $1 and status = 'completed' and result = '5'`, own); n != 1 {
		t.Error("it is not answered")
	}
	if _, err := p.Inject(t.Context(), d.stackRun(`select id from stack_runs where parent_task_run_id = $1 and service_name = 'sleep'`, two), nil); err != nil {
		t.Error(err)
	}
	wantResult(t, d.wait(p, two), `[null, 1]`)
	if n := d.count(`select count(*) from stack_runs where stuck_reason is not null`); n != 0 {
		t.Errorf("%d rows are stuck\n%s", n, d.dump())
	}
}

// TestInjectAgainstAnswer: the service and somebody else answer at the same
// moment, while the body runs for its other calls. One answer counts, for ever.
func TestInjectAgainstAnswer(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"both": `module.exports = async (i, { tools }) => {
			const slow = tools.gate.pass('service');
			for (let n = 0; n < 6; n++) await tools.echo.value(n);
			const first = await slow; await tools.echo.value(1); return [first, await slow] }`,
	})
	var gates sync.Map
	p, _ := d.host(func(c *stack.Config) {
		c.Lease = time.Hour // no give-back repairs what this proves
		c.Services["gate"] = held{gates: &gates}
	})
	counted := map[string]int{}
	for range 25 {
		r, err := p.Start(t.Context(), stack.StartParams{Task: "both"})
		if err != nil {
			t.Fatal(err)
		}
		id := d.stackRun(`select id from stack_runs where parent_task_run_id = $1 and service_name = 'gate'`, r.ID)
		var open any
		d.eventually("the call is made", func() bool { open, _ = gates.Load(id.String()); return open != nil })
		var both sync.WaitGroup
		both.Go(func() { close(open.(chan struct{})) })
		both.Go(func() {
			if _, err := p.Inject(t.Context(), id, json.RawMessage(`"injected"`)); err != nil && !errors.Is(err, stack.ErrNotWaiting) {
				t.Error(err)
			}
		})
		both.Wait()
		got := d.wait(p, r.ID)
		var pair [2]string
		if err := json.Unmarshal(got.Result, &pair); err != nil || pair[0] != pair[1] {
			t.Fatalf("%s %s %s", got.Status, got.Result, got.Error)
		}
		if n := d.count(`select count(*) from stack_runs where id = $1 and result = to_jsonb($2::text)`, id, pair[0]); n != 1 {
			t.Errorf("the task saw %s, the row shows another", pair[0])
		}
		counted[pair[0]]++
	}
	t.Log(fmt.Sprint(counted))
}

// held is a service whose calls wait for the channel that it keeps under their id.
type held struct{ gates *sync.Map }

func (h held) Call(ctx context.Context, c service.Call, m service.Meta) (json.RawMessage, error) {
	open := make(chan struct{})
	h.gates.Store(m.StackRun, open)
	select {
	case <-open:
		return c.Args()[0], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
