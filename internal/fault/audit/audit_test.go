package audit_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/fault/audit"
	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/internal/fault/trees"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// leaver ends while calls of all kinds are open, that of a child with a child
// among them; its child fails.
var leaver = trees.Tree{ID: "leaver", Path: "0", Body: []trees.Step{
	{Op: trees.OpForget, Of: []trees.Step{{Op: trees.OpTimer, MS: 3_600_000}}},
	{Op: trees.OpRace, Of: []trees.Step{
		{Op: trees.OpChild, Body: []trees.Step{{Op: trees.OpChild, Body: []trees.Step{{Op: trees.OpSleep, MS: 3_600_000}}}}},
		{Op: trees.OpSeq, Of: []trees.Step{{Op: trees.OpLedger, Method: ledger.Once, Answer: "minus-zeros"}, {Op: trees.OpSleep, MS: 1000}}},
	}},
	{Op: trees.OpChild, Catch: true, Body: []trees.Step{{Op: trees.OpLedger, Method: ledger.Each, Fail: "BROKE"}}},
	{Op: trees.OpLedger, Method: ledger.Each, Refuse: true, Catch: true},
	{Op: trees.OpForget, Of: []trees.Step{{Op: trees.OpSleep, MS: 3_600_000}}},
}}

// sleeper has not ended: it is parked, and a timer wakes it.
var sleeper = trees.Tree{ID: "sleeper", Path: "0", Body: []trees.Step{
	{Op: trees.OpLedger, Method: ledger.Each, Answer: "keys"}, {Op: trees.OpSleep, MS: 3_600_000}}}

// tried has calls of all kinds that are tried again, put off, or have only so much
// time: the ledger refuses some, one child fails at first, another never ends.
var tried = trees.Tree{ID: "tried", Path: "0", Body: []trees.Step{
	{Op: trees.OpLedger, Method: ledger.Once, Flaky: 2, With: &trees.With{Retries: &three, Backoff: 1}},
	{Op: trees.OpLedger, Method: ledger.Each, Flaky: ledger.Always, Catch: true, With: &trees.With{Retries: &three, Backoff: 1}},
	{Op: trees.OpLedger, Method: ledger.Once, Delay: 3_600_000, Catch: true, With: &trees.With{Timeout: 30}},
	{Op: trees.OpChild, With: &trees.With{Retries: &three, Backoff: 1}, Body: []trees.Step{
		{Op: trees.OpLedger, Method: ledger.Once}, {Op: trees.OpLedger, Method: ledger.Each, Turn: true, Fails: 3}}},
	{Op: trees.OpChild, With: &trees.With{In: 20}, Body: []trees.Step{{Op: trees.OpSleep}}},
	{Op: trees.OpChild, Catch: true, With: &trees.With{Timeout: 60}, Body: []trees.Step{hang}},
	{Op: trees.OpLedger, Method: ledger.Each, With: &trees.With{Own: true}},
}}

var (
	three = 3
	hang  = trees.Step{Op: trees.OpHang, Of: []trees.Step{{Op: trees.OpSleep, MS: 3_600_000}, {Op: trees.OpLedger, Method: ledger.Once}}}
)

// hanger does not end by itself: somebody cancels it.
var hanger = trees.Tree{ID: "hanger", Path: "0", Body: []trees.Step{{Op: trees.OpChild, Body: []trees.Step{hang}}}}

// slow asks the ledger in both ways, and gets its answers late.
var slow = trees.Tree{ID: "slow", Path: "0", Body: []trees.Step{{Op: trees.OpAll, Of: []trees.Step{
	{Op: trees.OpLedger, Method: ledger.Once, Delay: 1500}, {Op: trees.OpLedger, Method: ledger.Each, Delay: 1500}}}}}

// TestAudit: hosts that leave in the midst of trees break no promise, and what
// is planted in what they left is found, promise by promise.
func TestAudit(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.start(slow)
	s.start(leaver)
	s.start(sleeper)
	s.start(tried)
	s.start(hanger)
	for seed := range uint64(12) {
		s.start(trees.Generate(seed, trees.Options{MS: 20}))
	}
	for _, suspensions := range []int{1, 40, 60} {
		_, stop := s.host()
		s.asked(slow.ID, 2)
		s.until("suspensions", `select count(*) from fault.history where new_sequence > old_sequence and source = 'stack_runs'`, suspensions)
		stop()
	}
	p, stop := s.host()
	s.until("the hanger hangs", `select count(*) from stack_runs s join task_runs t on t.id = s.parent_task_run_id
		where t.input->>'tree' = 'hanger' and s.service_name = 'sleep' and s.status = 'sleeping'`, 1)
	if in, err := s.store.Cancel(t.Context(), stack.Host{}, s.roots[hanger.ID], time.Minute); err != nil || in.Ended {
		t.Fatalf("cancel: %+v, %v", in, err)
	}
	s.cfg.Cancelled = map[string]bool{hanger.ID: true}
	s.finish(p, sleeper.ID)
	s.until("the sleeper sleeps", `select count(*) from stack_runs where status = 'sleeping'`, 1)
	s.until("the sleeper waits", `select count(*) from stack_runs where status = 'suspended_waiting_child'`, 1)
	stop()

	clean := s.audit(nil)
	if len(clean.Violations) > 0 {
		t.Fatalf("hosts that did nothing wrong:\n%s", clean)
	}
	if clean.Trees != 17 || clean.Runs < 30 || clean.Calls < 60 || clean.Effects != len(s.cfg.Entries) || clean.Changes < 3*clean.Calls {
		t.Errorf("counts are off:\n%s", clean)
	}
	if clean.Repeated < 2 {
		t.Errorf("effects of a host that left were not repeated: nothing was disturbed\n%s", clean)
	}
	planted := map[string]bool{}
	for _, v := range violations {
		found := s.audit(func(tx pgx.Tx, cfg *audit.Config) { v.plant(t, tx, cfg) })
		if !slices.ContainsFunc(found.Violations, func(f audit.Violation) bool { return f.Promise == v.promise && f.Check == v.check }) {
			t.Errorf("I%d %s: not found after %s\n%s", v.promise, v.check, v, found)
		}
		if text := found.String(); !strings.Contains(text, fmt.Sprintf("\nI%d %s: ", v.promise, v.check)) {
			t.Errorf("the report does not say I%d %s:\n%s", v.promise, v.check, text)
		}
		planted[v.check] = true
	}
	for _, name := range audit.SQLChecks() {
		if !planted[name] {
			t.Errorf("nothing planted shows that %q can fail", name)
		}
	}
	t.Run("secrets", func(t *testing.T) { findsSecrets(t, s) })
	t.Run("no violation", func(t *testing.T) { passes(t, s) })
}

// findsSecrets plants the host's key everywhere, however spelled.
func findsSecrets(t *testing.T, s *stage) {
	key := s.cfg.Secrets["encryption key"]
	password := []byte(`pa"ss/w+rd`)
	std := base64.StdEncoding
	places := map[string]any{
		`insert into amber.logs (task_run_id, at, level, message) values (gen_random_uuid(), now(), 'info', 'key ' || $1)`:                     std.EncodeToString(key),
		`insert into amber.logs (task_run_id, at, level, message) values (gen_random_uuid(), now(), 'info', $1::text)`:                         std.EncodeToString(append([]byte("x"), key...)),
		`update public.stack_runs set vm_state = jsonb_build_object('a', jsonb_build_array($1::text)) where service_name = 'sleep'`:            base64.RawURLEncoding.EncodeToString(append([]byte("xy"), key...)),
		`update public.task_runs set error = jsonb_build_object($1::text, 1) where status = 'failed'`:                                          hex.EncodeToString(key),
		`update amber.snapshots set data = data || $1::bytea`:                                                                                  key,
		`update amber.replies set data = $1::bytea || data where kind = 'request'`:                                                             []byte(strings.ToUpper(hex.EncodeToString(key))),
		`insert into public.config_parameters (name, value) values ('dsn', 'postgres://u:' || $1 || '@h/d')`:                                   "pa%22ss%2Fw+rd",
		`insert into public.task_runs (task_name, input) values ('x', to_jsonb($1::text))`:                                                     string(password),
		`create schema "Other one" create table "a.b" ("c d" text[]); insert into "Other one"."a.b" values (array['x', 'y ' || current_user])`: nil,
	}
	for sql, value := range places {
		found := s.audit(func(tx pgx.Tx, cfg *audit.Config) {
			cfg.Secrets = map[string][]byte{"encryption key": key, "password": password, "user": []byte("y postgres")}
			plant(t, tx, "set local session_replication_role = replica")
			if value == nil {
				plant(t, tx, sql)
			} else {
				plant(t, tx, sql, value)
			}
		})
		if found.Count(7) == 0 {
			t.Errorf("not found after %s\n%s", sql, found)
		}
		for _, secret := range []string{string(key), std.EncodeToString(key), string(password)} {
			if strings.Contains(found.String(), secret) {
				t.Errorf("the report itself shows a secret:\n%s", found)
			}
		}
	}
	if n := s.audit(func(_ pgx.Tx, cfg *audit.Config) { cfg.Secrets = map[string][]byte{"code": []byte("module.exports")} }).Count(7); n == 0 {
		t.Error("what is in a column, as it is, was not found")
	}
	if _, err := audit.Audit(t.Context(), s.pool, audit.Config{Secrets: map[string][]byte{"short": []byte("1234567")}}); err == nil ||
		!strings.Contains(err.Error(), `"short"`) || strings.Contains(err.Error(), "1234567") {
		t.Errorf("a secret of 7 bytes: %v", err)
	}
}

// passes plants what is in order.
func passes(t *testing.T, s *stage) {
	for name, sql := range map[string]string{
		"stuck, and said so": `with row as (update stack_runs set status = 'pending_resume', stuck_reason = 'no key' where ` + sleeperBody + ` returning child_task_run_id)
			update task_runs set stuck_reason = 'no key' from row where id = child_task_run_id`,
		"sealed with another key": `update amber.replies set key_id = 'new', data = data || '\x00'`,
		"only looked at":          `update stack_runs set updated_at = now()`,
	} {
		if found := s.audit(func(tx pgx.Tx, _ *audit.Config) { plant(t, tx, sql) }); len(found.Violations) > 0 {
			t.Errorf("%s:\n%s", name, found)
		}
	}
	found := s.audit(func(tx pgx.Tx, cfg *audit.Config) {
		plant(t, tx, `update stack_runs set status = 'pending_resume' where `+sleeperBody)
		cfg.Rest = false
	})
	if len(found.Violations) > 0 || !strings.Contains(found.String(), "not at rest") {
		t.Errorf("I4 before all is at rest:\n%s", found)
	}
}

// TestCannotJudge: without its history a database cannot be judged, nor by a
// connection through which secrets cannot be seen.
func TestCannotJudge(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := audit.Audit(t.Context(), conn, audit.Config{}); err == nil || !strings.Contains(err.Error(), "Install") {
		t.Errorf("audit without a history: %v", err)
	}
	if err := audit.Install(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	r, err := audit.Audit(t.Context(), conn, audit.Config{Rest: true})
	if err != nil || len(r.Violations) > 0 {
		t.Errorf("audit of an empty database: %v\n%s", err, r)
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	simple, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer simple.Close(t.Context())
	// Bytes would come as text, in which a secret is not found as it is.
	_, err = audit.Audit(t.Context(), simple, audit.Config{Secrets: map[string][]byte{"key": []byte("0123456789")}})
	if err == nil || !strings.Contains(err.Error(), "simple protocol") {
		t.Errorf("audit by the simple protocol: %v", err)
	}
}

func TestReportText(t *testing.T) {
	t.Parallel()
	r := audit.Report{Trees: 1, Runs: 2, Calls: 3, Effects: 4, Repeated: 5, Changes: 6}
	for i := range 30 {
		r.Violations = append(r.Violations, audit.Violation{Promise: 1 + i/25, Check: "a check", ID: fmt.Sprint("row ", i), Want: "this", Got: "that"})
	}
	for _, want := range []string{
		"trees 1, runs 2, calls 3, effects 4, repeated effects 5, changes of rows 6\n",
		"I1 a completed call's reply is never changed or lost                        25\n",
		"I4 a run ends, or is parked with a wake condition, or is listed as stuck    not at rest\n",
		"I1 a check: row 19: want this, got that\nI1 and 5 more\nI2 a check: row 25: want this, got that\n",
	} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, r)
		}
	}
}

// plant runs a statement in the transaction that is audited.
func plant(t *testing.T, tx pgx.Tx, sql string, args ...any) {
	t.Helper()
	tag, err := tx.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("plant: %v\n%s", err, sql)
	}
	if !tag.Select() && (tag.Insert() || tag.Update() || tag.Delete()) && tag.RowsAffected() == 0 {
		t.Fatalf("plant: no row is affected by %s", sql)
	}
}

// planted is a violation that somebody makes.
type planted struct {
	promise int
	check   string
	quiet   bool // no trigger notes the statements
	sql     []string
	cfg     func(*audit.Config) // changes what the ledger, or the client, says
}

func (p planted) String() string { return strings.Join(p.sql, "; ") }

func (p planted) plant(t *testing.T, tx pgx.Tx, cfg *audit.Config) {
	t.Helper()
	cfg.Secrets = nil
	cfg.Entries = slices.Clone(cfg.Entries)
	if p.quiet {
		plant(t, tx, "set local session_replication_role = replica")
	}
	for _, sql := range p.sql {
		plant(t, tx, sql)
	}
	if p.cfg != nil {
		p.cfg(cfg)
	}
}

// Rows to plant in, as conditions.
const (
	sleeperBody = `child_task_run_id = (select id from task_runs where input->>'tree' = 'sleeper')`
	sleeperCall = `parent_stack_run_id = (select id from stack_runs where ` + sleeperBody + `) and service_name = 'sleep'`
	someAnswer  = `id = (select id from stack_runs where service_name = 'ledger' and status = 'completed' order by id limit 1)`
	someChild   = `id = (select id from stack_runs where service_name = 'tasks' and status = 'completed' and call_id is not null order by id limit 1)`
	triedAgain  = `parent_stack_run_id = (select id from stack_runs where tries = 3 and child_task_run_id is not null)`
	refused     = `args->0->>'tree' = 'tried' and args->0->>'path' = '0.0'`
	late        = `args->0->>'tree' = 'tried' and args->0->>'path' = '0.2'`
	someHost    = `'01234567-89ab-cdef-0123-456789abcdef'`
	otherHost   = `'11234567-89ab-cdef-0123-456789abcdef'`
)

// copyOf inserts a copy of a row of stack_runs with other values in some columns.
func copyOf(where, columns string) string {
	return `insert into stack_runs select (jsonb_populate_record(s, jsonb_build_object('id', gen_random_uuid(), 'idempotency_key', 'other', ` +
		columns + `))).* from stack_runs s where ` + where
}

// saw changes the ledger and the row of a call of the sleeper, so that the row has
// the answer to a repeat that its task never saw.
func saw(cfg *audit.Config) {
	i := slices.IndexFunc(cfg.Entries, func(e ledger.Entry) bool { return e.Ask.Tree == sleeper.ID })
	e := cfg.Entries[i]
	e.Number = 1_000_000
	e.Answer = service.Reply{Value: json.RawMessage(`{"n":1000000}`)}
	cfg.Entries = append(cfg.Entries, e)
}

// entry changes some entry of the ledger.
func entry(set func(*ledger.Entry)) func(*audit.Config) {
	return func(cfg *audit.Config) { set(&cfg.Entries[len(cfg.Entries)/2]) }
}

var violations = []planted{
	{promise: 1, check: "an ended row changed", sql: []string{`update stack_runs set result = '{"n":0}' where ` + someAnswer}},
	{promise: 1, check: "an ended row changed", sql: []string{`update stack_runs set status = 'cancelled' where ` + someChild}},
	{promise: 1, check: "an ended row changed", sql: []string{`update task_runs set status = 'suspended' where status = 'completed'`}},
	{promise: 1, check: "a row was deleted", sql: []string{`delete from stack_runs where ` + someAnswer}},
	{promise: 1, check: "a row was deleted", sql: []string{`delete from amber.replies where stack_run_id = (select id from stack_runs where ` + someAnswer + `)`}},
	{promise: 1, check: "something is left of a run that is gone", quiet: true, sql: []string{
		`select fault.age(id) from task_runs where parent_run_id is null and status = 'completed'`, `delete from task_runs where id in (select root from fault.old)`}},
	{promise: 1, check: "a reply was replaced", sql: []string{`update amber.replies set data = data || '\x00' where kind = 'reply'`}},
	{promise: 1, check: "a reply is missing", quiet: true, sql: []string{`delete from amber.replies where kind = 'reply'`}},
	{promise: 1, check: "a run and its body ended differently", quiet: true, sql: []string{`update task_runs set result = '1' where status = 'completed'`}},
	{promise: 1, check: "a run and its body ended differently", quiet: true, sql: []string{`update stack_runs set status = 'cancelled' where ` + someChild}},
	{promise: 1, check: "a reply that nobody gave", quiet: true, sql: []string{`update stack_runs set result = '{"n":0}' where ` + someAnswer}},
	{promise: 1, check: "a reply that nobody gave", quiet: true, sql: []string{`update stack_runs set error = '{"code":"OTHER"}' where service_name = 'ledger' and status = 'failed'`}},
	{promise: 1, check: "a reply that nobody gave", cfg: func(c *audit.Config) { c.Entries = nil }},

	{promise: 2, check: "a reply can be observed again", sql: []string{`update stack_runs set delivered = false where ` + someAnswer}},
	{promise: 2, check: "a reply was marked as seen by nobody", sql: []string{`update stack_runs set delivered = true where ` + sleeperCall}},
	{promise: 2, check: "an await was observed twice", sql: []string{`insert into amber.logs (task_run_id, at, level, message)
		select task_run_id, at, level, '@0.0 = "another"' from amber.logs where message like '@0.0 = %' limit 1`}},
	{promise: 2, check: "the task saw another reply than its call has", quiet: true, sql: []string{
		`update stack_runs set result = '{"n":1000000}' where service_name = 'ledger' and args->0->>'tree' = 'sleeper'`}, cfg: saw},

	{promise: 3, check: "a sequence number jumped", sql: []string{`update stack_runs set sequence = sequence + 2 where ` + sleeperBody}},
	{promise: 3, check: "a sequence number jumped", sql: []string{`update stack_runs set sequence = sequence - 1 where ` + sleeperBody}},
	{promise: 3, check: "a suspension that nobody could commit", sql: []string{
		`update stack_runs set status = 'pending_resume' where ` + sleeperBody,
		`update stack_runs set status = 'suspended_waiting_child', sequence = sequence + 1 where ` + sleeperBody}},
	{promise: 3, check: "a snapshot was committed twice", sql: []string{`insert into fault.history (source, op, row_id, old_status, new_status, old_sequence, new_sequence)
		select source, op, row_id, old_status, new_status, old_sequence, new_sequence from fault.history where new_sequence > old_sequence and source = 'stack_runs' limit 1`}},
	{promise: 3, check: "a snapshot without its row", sql: []string{`update only amber.snapshots set sequence = sequence + 1`}},
	{promise: 3, check: "a row without its snapshot", quiet: true, sql: []string{`delete from amber.snapshots`}},
	{promise: 3, check: "a row without its snapshot", quiet: true, sql: []string{`update stack_runs set sequence = sequence + 1 where ` + sleeperBody}},
	{promise: 3, check: "a row went from host to host", sql: []string{
		`update stack_runs set status = 'processing', claimed_by = ` + someHost + ` where ` + sleeperBody,
		`update stack_runs set claimed_by = ` + otherHost + ` where ` + sleeperBody}},
	{promise: 3, check: "an end that nobody could commit", sql: []string{
		`update stack_runs set status = 'pending_resume' where ` + sleeperBody,
		`update stack_runs set status = 'completed' where ` + sleeperBody}},
	{promise: 3, check: "held and not at work, or the reverse", sql: []string{`update stack_runs set claimed_by = ` + someHost + ` where ` + sleeperBody}},
	{promise: 3, check: "held and not at work, or the reverse", sql: []string{`update stack_runs set status = 'processing' where ` + sleeperBody}},
	{promise: 3, check: "two rows for one call", sql: []string{copyOf(someAnswer, `'delivered', true`)}},
	{promise: 3, check: "two rows for one call", sql: []string{copyOf(triedAgain+` and call_id = 1 and fault.execution(id, parent_stack_run_id) = 3`, `'delivered', true`)}},
	{promise: 3, check: "a suspension that nobody could commit", sql: []string{`update stack_runs set status = 'sleeping', sequence = sequence + 1 where ` + sleeperBody}},
	{promise: 3, check: "an end that nobody could commit", sql: []string{
		`update stack_runs set status = 'pending_resume', deadline_at = now() + interval '1 hour' where ` + sleeperBody,
		`update stack_runs set status = 'failed' where ` + sleeperBody}},
	{promise: 3, check: "an end that nobody could commit", sql: []string{`update stack_runs set status = 'failed' where ` + sleeperCall}},
	{promise: 3, check: "a row without its snapshot", quiet: true, sql: []string{`update stack_runs set first_sequence = sequence where ` + sleeperBody}},
	{promise: 3, check: "two bodies for one run", sql: []string{copyOf(someChild, `'call_id', 1000`)}},

	{promise: 4, check: "a run without a body", sql: []string{`insert into task_runs (task_name) values ('lost')`}},
	{promise: 4, check: "a run and its body do not agree", quiet: true, sql: []string{`update task_runs set status = 'suspended' where status = 'completed'`}},
	{promise: 4, check: "a run that does not say that it is stuck", sql: []string{`update stack_runs set stuck_reason = 'no key' where ` + sleeperBody}},
	{promise: 4, check: "nobody takes a row", sql: []string{`update stack_runs set status = 'pending_resume' where ` + sleeperBody}},
	{promise: 4, check: "a row is held for ever", sql: []string{`update stack_runs set status = 'processing', claimed_by = ` + someHost + ` where ` + sleeperBody}},
	{promise: 4, check: "a timer did not ring", sql: []string{`update stack_runs set due_at = now() - interval '1 minute' where ` + sleeperCall}},
	{promise: 4, check: "a timer did not ring", sql: []string{`update stack_runs set due_at = null where ` + sleeperCall}},
	{promise: 4, check: "a body waits for nothing", sql: []string{`update stack_runs set status = 'cancelled', delivered = true where ` + sleeperCall}},
	{promise: 4, check: "a wake was lost", sql: []string{`update stack_runs set status = 'completed' where ` + sleeperCall}},
	{promise: 4, check: "nobody ends what has had its time", sql: []string{`update stack_runs set deadline_at = now() - interval '1 minute' where ` + sleeperBody}},
	{promise: 4, check: "a call outlives its caller", sql: []string{`update stack_runs set status = 'cancelled' where ` + sleeperBody}},
	{promise: 4, check: "an unknown status", sql: []string{`update stack_runs set status = 'napping' where ` + sleeperBody}},

	{promise: 5, check: "a tree was not played as it must be", sql: []string{`update amber.logs set message = replace(message, '"n":', '"n":9') where message like '@%"n":%'`}},
	{promise: 5, check: "a tree was not played as it must be", sql: []string{`delete from amber.logs where message like '@0.0.%' or message like '@0.1%'`}},
	{promise: 5, check: "a tree was not played as it must be", quiet: true, sql: []string{`update task_runs set result = result || '{"path":"7"}' where status = 'completed'`}},
	{promise: 5, check: "a tree was not played as it must be", sql: []string{`update stack_runs set call_id = 3 - call_id where parent_task_run_id = (select id from task_runs where input->>'tree' = 'sleeper') and call_id is not null`}},
	{promise: 5, check: "a tree was not played as it must be", cfg: func(c *audit.Config) {
		c.Results = maps.Clone(c.Results)
		c.Results[leaver.ID] = append(json.RawMessage(" "), c.Results[leaver.ID]...)
	}},
	{promise: 5, check: "a tree was not played as it must be", cfg: func(c *audit.Config) { c.Trees = append(slices.Clone(c.Trees), trees.Generate(999, trees.Options{})) }},
	{promise: 5, check: "runs of a tree that nobody started", cfg: func(c *audit.Config) { c.Trees = nil }},

	{promise: 6, check: "a key of two calls", quiet: true, sql: []string{`update stack_runs set idempotency_key = 'same' where service_name = 'ledger'`}},
	{promise: 6, check: "a key of two calls", quiet: true, sql: []string{`update stack_runs set idempotency_key = 'fault-tree/same' where service_name = 'ledger' and parent_task_run_id = (select id from task_runs where input->>'tree' = 'tried' and input->>'path' = '0')`}},
	{promise: 6, check: "a key of two calls", cfg: func(c *audit.Config) { c.Entries[1].Key = c.Entries[0].Key }},
	{promise: 6, check: "a call without a key", quiet: true, sql: []string{`update stack_runs set idempotency_key = null where ` + sleeperCall}},
	{promise: 6, check: "an effect without a key", cfg: entry(func(e *ledger.Entry) { e.Key = "" })},
	{promise: 6, check: "two keys for one call", cfg: func(c *audit.Config) {
		e := c.Entries[0]
		e.Number, e.Key = 1_000_000, "another"
		c.Entries = append(c.Entries, e)
	}},
	{promise: 6, check: "an effect without a call", cfg: entry(func(e *ledger.Entry) { e.StackRun = someHost })},
	{promise: 1, check: "a call was cancelled by nobody", sql: []string{`update stack_runs set status = 'cancelled' where ` + sleeperCall}},
	{promise: 2, check: "the task saw another reply than its call has", quiet: true, sql: []string{`update stack_runs set error = '{"code": "OTHER"}' where ` + late}},
	{promise: 2, check: "a result after a TimeoutError", sql: []string{`insert into amber.logs (task_run_id, at, level, message)
		select task_run_id, at, level, '@0.2 = {"n":1}' from amber.logs where message like '@0.2 ! TIMEOUT: %' limit 1`}},
	{promise: 4, check: "a run began before its time", sql: []string{`update task_runs set scheduled_for = started_at + interval '1 second' where scheduled_for is not null`}},
	{promise: 4, check: "a row woke before it was due", sql: []string{`update stack_runs set status = 'pending' where ` + sleeperCall}},
	{promise: 4, check: "a try began before it was due", sql: []string{`update amber.attempts set next_at = next_at + interval '1 minute'`}},
	{promise: 4, check: "an interrupted body ended as something else", quiet: true, sql: []string{`update stack_runs set interrupt = 'cancel' where ` + someChild}},
	{promise: 4, check: "an interrupted body ended as something else", quiet: true, sql: []string{`update stack_runs set interrupt = 'timeout' where interrupt = 'cancel'`}},
	{promise: 4, check: "an interrupted body began anew, or went on as if it were not", sql: []string{
		`update stack_runs set interrupt = 'cancel' where ` + sleeperBody, `update stack_runs set interrupt = null where ` + sleeperBody}},
	{promise: 4, check: "an interrupted body began anew, or went on as if it were not", sql: []string{
		`update stack_runs set interrupt = 'cancel' where ` + sleeperBody, `update stack_runs set tries = 1, status = 'sleeping' where ` + sleeperBody}},
	{promise: 4, check: "a call outlives its execution", quiet: true, sql: []string{`update stack_runs set status = 'sleeping' where ` + triedAgain}},
	{promise: 4, check: "a run that was cancelled ended as something else", cfg: func(c *audit.Config) { c.Cancelled = map[string]bool{leaver.ID: true} }},
	{promise: 5, check: "a tree was not played as it must be", cfg: func(c *audit.Config) { c.Cancelled = nil }},
	{promise: 5, check: "a tree was not played as it must be", quiet: true, sql: []string{`update stack_runs set interrupt = null where interrupt = 'cancel'`}},

	{promise: 6, check: "the number of tries jumped", sql: []string{`update stack_runs set tries = tries + 1 where ` + refused}},
	{promise: 6, check: "the number of tries jumped", sql: []string{`update stack_runs set tries = 2, status = 'sleeping' where ` + sleeperBody}},
	{promise: 6, check: "tries that were not recorded", sql: []string{`delete from amber.attempts where stack_run_id in (select id from stack_runs where ` + refused + `)`}},
	{promise: 6, check: "tries that were not recorded", sql: []string{`update amber.attempts set attempt = attempt + 1 where attempt = 2`}},
	{promise: 6, check: "tries that were not recorded", sql: []string{`insert into amber.attempts (stack_run_id, attempt) select id, 1 from stack_runs where ` + someAnswer}},
	{promise: 6, check: "a call was tried more often than its task allows", quiet: true, sql: []string{`update stack_runs set tries = 4 where ` + refused}},
	{promise: 6, check: "a call without the key that its task gave", quiet: true, sql: []string{`update stack_runs set idempotency_key = gen_random_uuid()::text where idempotency_key like '%/%'`}},
	{promise: 6, check: "a call with a key that its task did not give", quiet: true, sql: []string{`update stack_runs set idempotency_key = 'fault-tree/mine' where ` + refused}},
	{promise: 6, check: "a call was made more often than it was taken", cfg: func(c *audit.Config) {
		e := c.Entries[0]
		for range 9 {
			e.Number++
			c.Entries = append(c.Entries, e)
		}
	}},
	{promise: 6, check: "an effect of another call", cfg: entry(func(e *ledger.Entry) { e.TaskRun = someHost })},
	{promise: 6, check: "an effect of another call", cfg: entry(func(e *ledger.Entry) { e.Ask.Path = "9" })},
}
