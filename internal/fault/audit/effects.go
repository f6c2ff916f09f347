package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/internal/fault/trees"
	"github.com/amberhost/amber/service"
)

// asked is the row of a call of the ledger.
type asked struct {
	ID, Run, Status, Key string
	Tree, Path           string // "" for a call that was refused: its arguments are not shown
	Execution            int64  // how often its caller had begun anew
	Tries                int    // that were followed by another
	Taken                int    // how often a host began to work for it
	Timed                bool   // it has only so much time
	Result, Error        json.RawMessage
	Over                 bool           // of an execution that a retry left behind
	Retired              []string       // keys under which a retry has it sent no more
	entries              []ledger.Entry // under its key
}

// effects compares the rows of calls of the ledger with its entries.
func (a *auditor) effects(ctx context.Context) error {
	if err := a.loadAsked(ctx); err != nil {
		return err
	}
	byKey, byCall := map[string]ledger.Entry{}, map[string]ledger.Entry{}
	for _, e := range a.cfg.Entries {
		call, id := e.Ask.Tree+" "+e.Ask.Path, fmt.Sprintf("entry %d", e.Number)
		row := a.rows[e.StackRun]
		once := call // in each execution
		if row != nil {
			once = fmt.Sprint(call, " ", row.Execution)
		}
		if e.Key == "" {
			a.found(6, "an effect without a key", id, "a key", "none, for "+call)
		}
		if first, ok := byKey[e.Key]; !ok {
			byKey[e.Key] = e
		} else if first.Ask != e.Ask || first.Method != e.Method {
			a.found(6, "a key of two calls", e.Key, fmt.Sprintf("what entry %d asked: %s %+v", first.Number, first.Method, first.Ask),
				fmt.Sprintf("%s: %s %+v", id, e.Method, e.Ask))
		}
		if row != nil && (row.Over || slices.Contains(row.Retired, e.Key)) { // a retry may ask once more
			continue
		}
		if first, ok := byCall[once]; !ok {
			byCall[once] = e
		} else if first.Key != e.Key {
			a.found(6, "two keys for one call", call, fmt.Sprintf("%s, as entry %d", first.Key, first.Number), id+": "+e.Key)
		}
		switch {
		case row == nil:
			a.found(6, "an effect without a call", id, "a row for "+call, "none with id "+e.StackRun)
			continue
		case row.Key != e.Key, row.Run != e.TaskRun, row.Tree+" "+row.Path != call:
			a.found(6, "an effect of another call", id, fmt.Sprintf("key %s, run %s, %s %s as row %s", row.Key, row.Run, row.Tree, row.Path, row.ID),
				fmt.Sprintf("key %s, run %s, %s", e.Key, e.TaskRun, call))
		}
		row.entries = append(row.entries, e)
	}
	for _, row := range a.rows {
		if !row.Over {
			a.checkReply(row)
		}
		if len(row.entries) > row.Taken {
			a.found(6, "a call was made more often than it was taken", row.ID, fmt.Sprintf("%d times at most", row.Taken), fmt.Sprintf("%d effects", len(row.entries)))
		}
	}
	return nil
}

func (a *auditor) loadAsked(ctx context.Context) error {
	rows, err := a.db.Query(ctx, `
		with recursive left_behind as ( -- by a retry, with all below
			select id from public.stack_runs where call_id is null and parent_stack_run_id is not null
			union select s.id from public.stack_runs s join left_behind l on s.parent_stack_run_id = l.id
		)
		select id::text, coalesce(parent_task_run_id::text, '') as run, status, coalesce(idempotency_key, '') as key,
			coalesce(args->0->>'tree', '') as tree, coalesce(args->0->>'path', '') as path, result, error, call_id is null or id in (select id from left_behind) as over,
			array(select a.key from amber.attempts a where a.stack_run_id = s.id and a.retry = 'again' and a.key is not null) as retired,
			tries, deadline_at is not null as timed, case when parent_stack_run_id is null then 0 else fault.execution(id, parent_stack_run_id) end as execution,
			(select count(*) from fault.history h where h.row_id = s.id and h.source = 'stack_runs' and h.new_status = 'processing'
				and h.old_status is distinct from 'processing') as taken
		from public.stack_runs s where service_name = 'ledger'`)
	if err != nil {
		return fmt.Errorf("load calls: %w", err)
	}
	type row struct {
		ID, Run, Status, Key, Tree, Path string
		Result, Error                    json.RawMessage
		Over                             bool
		Retired                          []string
		Execution                        int64
		Tries, Taken                     int
		Timed                            bool
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return fmt.Errorf("load calls: %w", err)
	}
	a.rows = map[string]*asked{}
	for _, r := range found {
		c := &asked{ID: r.ID, Run: r.Run, Status: r.Status, Key: r.Key, Tree: r.Tree, Path: r.Path, Result: r.Result, Error: r.Error,
			Over: r.Over, Retired: r.Retired, Execution: r.Execution, Tries: r.Tries, Taken: r.Taken, Timed: r.Timed}
		a.rows[c.ID] = c
	}
	return nil
}

// checkReply looks for the reply of a row among what the ledger answered.
func (a *auditor) checkReply(row *asked) {
	if row.Status != "completed" && row.Status != "failed" {
		return
	}
	if row.Path == "" && row.Status == "failed" && code(row.Error) == service.CodeInvalidArgument {
		return // refused: it was never made
	}
	if row.Timed && row.Status == "failed" && code(row.Error) == service.CodeTimeout {
		return
	}
	for _, e := range row.entries {
		if row.gave(e) {
			return
		}
	}
	want := "an answer of the ledger, which was not asked"
	if n := len(row.entries); n > 0 {
		last := row.entries[n-1].Answer
		want = fmt.Sprintf("one of %d answers, the last of them %s", n, last.Value)
		if last.Err != nil {
			want = fmt.Sprintf("one of %d answers, the last of them %v", n, last.Err)
		}
	}
	a.found(1, "a reply that nobody gave", row.ID, want, row.Status+" "+string(row.Result)+string(row.Error))
}

// gave reports whether an entry's answer is the reply in the row.
func (row *asked) gave(e ledger.Entry) bool {
	switch answer := e.Answer; {
	case answer.Err != nil:
		var got service.Error
		return row.Status == "failed" && json.Unmarshal(row.Error, &got) == nil &&
			got.Code == answer.Err.Code && got.Message == answer.Err.Message
	case ledger.Refused(e.Ask.Answer):
		return row.Status == "failed" && code(row.Error) == service.CodeInvalidResult
	default:
		return row.Status == "completed" && trees.SameJSON(row.Result, answer.Value)
	}
}

func code(raw json.RawMessage) string {
	var e service.Error
	_ = json.Unmarshal(raw, &e) // of what is no error the code is ""
	return e.Code
}
