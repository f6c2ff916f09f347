package audit_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/fault/audit"
	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/internal/fault/trees"
)

// failer fails in a child, while calls are open, however often it is retried.
var failer = trees.Tree{ID: "failer", Path: "0", Body: []trees.Step{
	{Op: trees.OpLedger, Method: ledger.Each, Answer: "keys"},
	{Op: trees.OpChild, Body: []trees.Step{
		{Op: trees.OpLedger, Method: ledger.Once},
		{Op: trees.OpAll, Of: []trees.Step{
			{Op: trees.OpSleep, MS: 3_600_000},
			{Op: trees.OpChild, Body: []trees.Step{{Op: trees.OpLedger, Method: ledger.Each}, {Op: trees.OpSleep, MS: 3_600_000}}},
			{Op: trees.OpSeq, Of: []trees.Step{{Op: trees.OpSleep, MS: 100}, {Op: trees.OpLedger, Method: ledger.Each, Fail: "BROKE"}}},
		}},
	}},
}}

// Rows of the failer.
const (
	failerRuns  = `(select id from task_runs where input->>'tree' = 'failer')`
	failerBody  = `(select id from stack_runs where child_task_run_id = (select id from task_runs where input->>'tree' = 'failer' and input->>'path' = '0'))`
	failerFirst = `(select id from stack_runs where parent_stack_run_id = ` + failerBody + ` and service_name = 'ledger')`
)

// TestAuditRetried: runs that are retried break no promise, and what breaks one
// is found though it is called a retry.
func TestAuditRetried(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.start(failer)
	p, stop := s.host()
	s.finish(p, "")
	const retries = 3
	for range retries {
		if _, err := p.Retry(t.Context(), s.roots[failer.ID], false); err != nil {
			t.Fatal(err)
		}
		s.finish(p, "")
	}
	stop()
	clean := s.audit(nil)
	if len(clean.Violations) > 0 {
		t.Fatalf("hosts that did nothing wrong:\n%s", clean)
	}
	broke := 0
	for _, e := range s.cfg.Entries {
		if e.Answer.Err != nil {
			broke++
		}
	}
	if broke != 1+retries {
		t.Errorf("the call that fails was made %d times, want %d", broke, 1+retries)
	}
	const says = `insert into amber.attempts (stack_run_id, attempt, retry) select id, 1, `
	for _, v := range []planted{
		{promise: 1, check: "an ended row changed", sql: []string{says + `'again' from stack_runs where id = ` + failerFirst,
			`update stack_runs set result = '{"n":0}' where id = ` + failerFirst}},
		{promise: 1, check: "an ended row changed", sql: []string{says + `'open' from stack_runs where id = ` + failerBody,
			`update stack_runs set status = 'suspended_waiting_child', error = null where id = ` + failerBody}},
		{promise: 1, check: "an ended row changed", sql: []string{`update stack_runs set status = 'suspended_waiting_child', error = null where id = ` + failerBody}},
		{promise: 1, check: "a row was deleted", sql: []string{says + `'again' from stack_runs where id = ` + failerFirst,
			`delete from amber.replies where kind = 'reply' and stack_run_id = ` + failerFirst}},
		{promise: 2, check: "a reply can be observed again", sql: []string{says + `'resume' from stack_runs where id = ` + failerBody,
			`update stack_runs set delivered = false where id = ` + failerFirst}},
		{promise: 2, check: "an await was observed twice", sql: []string{`insert into amber.logs (task_run_id, at, level, message)
			select task_run_id, at, level, message from amber.logs where message like '@0.0 = %' and task_run_id in ` + failerRuns + ` limit 1`}},
		{promise: 3, check: "a suspension that nobody could commit", sql: []string{says + `'anew' from stack_runs where id = ` + failerFirst,
			`update stack_runs set sequence = sequence + 1 where id = ` + failerFirst}},
		{promise: 6, check: "two keys for one call", quiet: true, sql: []string{`update amber.attempts set key = null where retry = 'again'`}},
	} {
		found := s.audit(func(tx pgx.Tx, cfg *audit.Config) { v.plant(t, tx, cfg) })
		if !slices.ContainsFunc(found.Violations, func(f audit.Violation) bool { return f.Promise == v.promise && f.Check == v.check }) {
			t.Errorf("I%d %s: not found after %s\n%s", v.promise, v.check, v, found)
		}
	}
}
