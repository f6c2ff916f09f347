package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/failpoint"
	"github.com/amberhost/amber/stack"
)

// extra tasks lead hosts to what no tree does. Each has one right result.
var extraTasks = map[string]string{
	"fault-leaf": `module.exports = async (n) => n`,
	// More nested tasks than a host counts by itself, all at once.
	"fault-wide": `module.exports = async (n, { tools }) => (await Promise.all(Array.from({ length: n }, () => tools.tasks.execute('fault-leaf', 1)))).length`,
	// A nested task that fails twice, each time with calls of all kinds behind it and
	// one that is open, and is tried again.
	"fault-again": `module.exports = async (n, { tools }) => tools.with({ retries: 2, backoff: 5 }).tasks.execute('fault-fails', n)`,
	"fault-fails": `module.exports = async (n, { tools }) => {
		const leaves = await Promise.all([1, 2, 3].map((i) => tools.tasks.execute('fault-leaf', i)));
		const { turn } = await tools.with({ retries: 3, backoff: 5 }).ledger.each({ tree: 'again-' + n, path: '0', turn: true, flaky: 1 });
		await Promise.race([tools.tasks.execute('fault-hangs'), tools.sleep(1)]);
		if (turn < 3) throw new Error('once more');
		return [leaves, turn] }`,
	// It fails until the time has come, in a nested task that has an effect behind it.
	"fault-early": `module.exports = async (at, { tools }) => [await tools.tasks.execute('fault-waits', at), await tools.tasks.execute('fault-leaf', 1)]`,
	"fault-waits": `module.exports = async (at, { tools }) => {
		await tools.ledger.once({ tree: 'early-' + at, path: '0' });
		const leaf = await tools.tasks.execute('fault-leaf', true);
		if (Date.now() < at) throw new Error('too early');
		await tools.sleep(1);
		return [at, leaf] }`,
	"fault-hangs": `module.exports = async (n, { tools }) => tools.sleep(3600000)`,
	// A body that holds much, and changes little of it.
	"fault-big": `module.exports = async (n, { tools }) => {
		const held = Array.from({ length: 20000 }, (_, i) => 'item ' + i * 7919 % 20011);
		for (let i = 0; i < n; i++) { await tools.sleep(1); held[i] += '!' }
		return held.filter((item) => item.endsWith('!')).length }`,
	// It waits until somebody answers in place of the timer.
	"fault-wait": `module.exports = async (n, { tools }) => [n, await tools.sleep(3600000)]`,
	// Timers that are given up.
	"fault-race": `module.exports = async (n, { tools }) => { const t = setTimeout(() => {}, 3600000); await tools.sleep(1); clearTimeout(t); await tools.sleep(1); return n }`,
}

// extra is a run of one of them.
type extra struct {
	run  uuid.UUID
	want string
}

func (p *play) publishExtras(ctx context.Context) error {
	for name, code := range extraTasks {
		if _, err := p.store.Publish(ctx, stack.Task{Name: name, Code: code}); err != nil {
			return err
		}
	}
	return nil
}

// startExtra starts one, for sure.
func (p *play) startExtra(ctx context.Context, task string, n int, want string) {
	e := extra{uuid.New(), want}
	for ctx.Err() == nil {
		_, err := p.store.Start(ctx, stack.Host{}, stack.StartParams{Task: task, Input: json.RawMessage(fmt.Sprint(n)), ID: e.run}, false)
		if _, lookErr := p.store.Run(ctx, e.run); err == nil || lookErr == nil {
			p.mu.Lock()
			p.extras = append(p.extras, e)
			p.mu.Unlock()
			return
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// answerWaiting answers a call of a fault-wait that waits, if there is one.
func (p *play) answerWaiting(ctx context.Context) error {
	var call string
	err := p.database.pool.QueryRow(ctx, `
		select c.id::text from public.stack_runs c join public.stack_runs b on b.id = c.parent_stack_run_id
		join public.task_runs t on t.id = b.child_task_run_id
		where t.task_name = 'fault-wait' and c.status = 'sleeping' limit 1`).Scan(&call)
	if err != nil {
		return nil // there is none
	}
	return p.ask(ctx, http.MethodPost, "/functions/v1/quickjs/resume", map[string]any{"stackRunIdToResume": call, "resultToInject": "answered"}, "")
}

// insert does what clients of the original do: it inserts the row of a task that
// brings its own code.
func (p *play) insert(ctx context.Context, n int) {
	code := `module.exports = async (n, { tools }) => { await tools.sleep(1); return n }`
	state, _ := json.Marshal(map[string]any{"task_code": code, "task_name": "fault-own", "input": n})
	id, run := uuid.New(), uuid.New()
	var err error
	switch {
	case n%16 == 13: // a run alone, for later
		id = run
		_, err = p.database.pool.Exec(ctx, `
			insert into public.task_runs (id, task_name, input, status, scheduled_for) values ($1, 'fault-leaf', $2, 'queued', now() + interval '300 milliseconds')`,
			run, json.RawMessage(fmt.Sprint(n)))
	case n%8 == 1: // with its run
		_, err = p.database.pool.Exec(ctx, `
			with run as (insert into public.task_runs (id, task_name, input, status) values ($2, 'fault-own', $3, 'processing'))
			insert into public.stack_runs (id, parent_task_run_id, service_name, method_name, args, vm_state) values ($1, $2, 'tasks', 'execute', '[]', $4)`,
			id, run, json.RawMessage(fmt.Sprint(n)), json.RawMessage(state))
	default:
		_, err = p.database.pool.Exec(ctx, `
			insert into public.stack_runs (id, service_name, method_name, args, vm_state) values ($1, 'tasks', 'execute', '[]', $2)`, id, json.RawMessage(state))
	}
	if err == nil {
		p.mu.Lock()
		p.inserted = append(p.inserted, extra{id, fmt.Sprint(n)})
		p.mu.Unlock()
	}
}

// reseal has everything sealed with the first key of the ring, while hosts seal
// with either. It dies at points as hosts do.
func (p *play) reseal(ctx context.Context, n int) {
	h := p.hosts[n%len(p.hosts)]
	url, err := h.proxy.URL(p.database.where())
	if err != nil {
		return
	}
	for _, words := range [][]string{{"keys", "reseal"}, {"keys", "list"}} {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		cmd := exec.CommandContext(ctx, p.program(), words...)
		cmd.Dir = p.Dir
		log := fmt.Sprintf("%s/points-cli", p.Dir)
		cmd.Env = p.env(n, url, failpoint.Env+"="+p.arm(resealPoint), failpoint.LogEnv+"="+log)
		var out []byte
		p.countDeaths(log, func() { out, _ = cmd.CombinedOutput() })
		p.logCLI(words, out)
		cancel()
	}
}

// logCLI keeps what amber keys said.
func (p *play) logCLI(words []string, out []byte) {
	f, err := os.OpenFile(filepath.Join(p.Dir, "cli.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "--- %s\n%s", strings.Join(words, " "), out)
}

// resealPoint says which points lie on the way of amber keys.
func resealPoint(point string) bool {
	for _, part := range []string{"reseal", "Reseal", "KeyUse", "forgetKeys", "sealedWithOthers", "seals", "everyHostHas", "CheckKeys", "NoteKey"} {
		if strings.Contains(point, part) {
			return true
		}
	}
	return false
}

// ageImages has hosts think that images were not used for long, of which some are
// needed and some are not.
func (p *play) ageImages(ctx context.Context) {
	_, _ = p.database.pool.Exec(ctx, `update amber.images set used_at = now() - interval '23 hours'`)
	_, _ = p.database.pool.Exec(ctx, `insert into amber.images (digest, engine, data, used_at) values (gen_random_uuid()::text::bytea, '', '', now() - interval '2 days')`)
}

// insertBroken inserts what no host can go on with: a request that is sealed with
// a key which nobody has, and a body whose snapshot is gone. Both are parked.
func (p *play) insertBroken(ctx context.Context) {
	ghost, gone, run := uuid.New(), uuid.New(), uuid.New()
	p.mu.Lock()
	p.broken = append(p.broken, ghost, gone) // whether they are there is known at the end
	p.mu.Unlock()
	_ = pgx.BeginFunc(ctx, p.database.pool, func(tx pgx.Tx) error { // unless the database is away
		return insertGhosts(ctx, tx, ghost, gone, run)
	})
}

func insertGhosts(ctx context.Context, tx pgx.Tx, ghost, gone, run uuid.UUID) error {
	for _, s := range []struct {
		sql  string
		args []any
	}{
		{`with row as (insert into public.stack_runs (id, service_name, method_name, args, status) values ($1, 'tasks', 'execute', '["fault-leaf", 1]', 'sleeping'))
			insert into amber.replies (stack_run_id, kind, key_id, data) values ($1, 'request', 'ghost', '\x00')`, []any{ghost}},
		{`with run as (insert into public.task_runs (id, task_name, input, status) values ($2, 'fault-leaf', '1', 'suspended'))
			insert into public.stack_runs (id, service_name, method_name, args, status, child_task_run_id, sequence)
			values ($1, 'tasks', 'execute', '["fault-leaf", 1]', 'sleeping', $2, 1)`, []any{gone, run}},
		{`update public.stack_runs set status = 'pending' where id = $1`, []any{ghost}},
		{`update public.stack_runs set status = 'pending_resume' where id = $1`, []any{gone}},
	} {
		if _, err := tx.Exec(ctx, s.sql, s.args...); err != nil {
			return err
		}
	}
	return nil
}

// checkParked looks at what is parked at the end: what nobody can go on with should
// be, and nothing else, of which the auditor would say that it is listed as stuck.
func (p *play) checkParked(ctx context.Context) error {
	rows, err := p.database.pool.Query(ctx, `select id, stuck_reason from public.stack_runs where stuck_reason is not null`)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var why string
	_, err = pgx.ForEachRow(rows, []any{&id, &why}, func() error {
		if slices.Contains(p.broken, id) {
			p.report.Parked++
		} else {
			p.odd(fmt.Sprintf("%s is parked: %s", id, why))
		}
		return nil
	})
	if err != nil {
		return err
	}
	var there int
	if err := p.database.pool.QueryRow(ctx, `select count(*) from public.stack_runs where id = any($1)`, p.broken).Scan(&there); err != nil {
		return err
	}
	if p.report.Parked != there {
		p.odd(fmt.Sprintf("%d of the %d rows are parked that nobody can go on with", p.report.Parked, there))
	}
	return nil
}

// endBroken ends what nothing else will, as an operator does.
func (p *play) endBroken(ctx context.Context) error {
	_, err := p.database.pool.Exec(ctx, `
		with rows as (
			update public.stack_runs set status = 'cancelled', stuck_reason = null, ended_at = now() where id = any($1)
			returning child_task_run_id
		)
		update public.task_runs t set status = 'cancelled', stuck_reason = null, ended_at = now() from rows where t.id = rows.child_task_run_id`, p.broken)
	return err
}

// ageRuns has some extras that have ended be of long ago, so that hosts remove them:
// those without effects, which the auditor would miss.
func (p *play) ageRuns(ctx context.Context) {
	_, _ = p.database.pool.Exec(ctx, `
		select fault.age(id) from (
			select id from public.task_runs
			where task_name in ('fault-leaf', 'fault-wide', 'fault-big', 'fault-wait', 'fault-race', 'fault-own')
				and parent_run_id is null and status = 'completed' and idempotency_key is null and ended_at > now() - interval '1 day'
			order by random() limit 20) r`)
}

// removed reports whether an extra has been removed, as it may be.
func (p *play) removed(ctx context.Context, id uuid.UUID) (is bool, err error) {
	err = p.database.pool.QueryRow(ctx, `select exists (select from fault.old where row_id = $1)`, id).Scan(&is)
	return is, err
}

// checkExtras looks whether all extra runs ended as they should.
func (p *play) checkExtras(ctx context.Context) error {
	for _, e := range append(p.extras, p.inserted...) {
		r, err := p.store.Run(ctx, e.run)
		if errors.Is(err, stack.ErrRunNotFound) {
			is, lookErr := p.removed(ctx, e.run)
			if is {
				p.report.Removed++
				continue
			}
			err = errors.Join(err, lookErr)
		}
		if err != nil {
			return fmt.Errorf("extra run %s: %w", e.run, err)
		}
		if r.Status != stack.StatusCompleted || string(r.Result) != e.want {
			p.odd(fmt.Sprintf("run %s of %s is %s: %s %s, want %s", r.ID, r.TaskName, r.Status, r.Result, r.Error, e.want))
		}
	}
	return nil
}
