package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/internal/fault/trees"
)

// played judges every tree by its oracle.
func (a *auditor) played(ctx context.Context) error {
	seen, err := a.seen(ctx)
	if err != nil {
		return err
	}
	entries := map[int64]ledger.Entry{}
	for _, e := range a.cfg.Entries {
		entries[e.Number] = e
		if s := seen[e.Ask.Tree]; s != nil {
			s.Entries = append(s.Entries, e)
		}
	}
	for _, tree := range a.cfg.Trees {
		s := seen[tree.ID]
		delete(seen, tree.ID)
		if s == nil {
			s = new(trees.Seen)
		}
		_, s.Cancelled = a.cfg.Cancelled[tree.ID]
		s.Timed, s.Below = a.cfg.Timed[tree.ID], a.cfg.Below[tree.ID]
		a.checkAsked(tree, s)
		verdict := tree.Check(*s)
		for _, c := range verdict.Complaints {
			a.found(5, "a tree was not played as it must be", tree.ID+" at "+c.Path, c.Want, c.Got)
		}
		for _, took := range verdict.Took {
			a.checkTook(tree.ID, took, entries)
		}
	}
	for id, s := range seen {
		a.found(5, "runs of a tree that nobody started", id, "none", fmt.Sprint(len(s.Runs)))
	}
	return nil
}

// checkAsked looks whether a tree that was to end did, how often its calls were
// tried, and under which keys.
func (a *auditor) checkAsked(tree trees.Tree, s *trees.Seen) {
	for _, r := range s.Runs {
		if r.Path == tree.Path && a.cfg.Rest && a.cfg.Cancelled[tree.ID] && r.Status != "cancelled" {
			a.found(4, "a run that was cancelled ended as something else", tree.ID, "cancelled", r.Status)
		}
		for _, c := range r.Calls {
			row := a.rows[c.ID]
			if row == nil || row.Path == "" { // refused: it is not known which it was
				continue
			}
			switch key, own := tree.Key(row.Path); {
			case own && row.Key != key:
				a.found(6, "a call without the key that its task gave", tree.ID+" at "+row.Path, key, row.Key)
			case !own && strings.Contains(row.Key, "/"):
				a.found(6, "a call with a key that its task did not give", tree.ID+" at "+row.Path, "amber's own", row.Key)
			}
			if row.Tries > tree.Retries(row.Path) {
				a.found(6, "a call was tried more often than its task allows", tree.ID+" at "+row.Path, fmt.Sprint(1+tree.Retries(row.Path)), fmt.Sprint(1+row.Tries))
			}
		}
	}
}

// checkTook compares what a task saw of a call with the reply in its row.
func (a *auditor) checkTook(tree string, took trees.Taken, entries map[int64]ledger.Entry) {
	row := a.rows[took.Call]
	if row == nil || row.Status != "completed" && row.Status != "failed" {
		return
	}
	reply := fmt.Sprintf("%s %s%s in row %s", row.Status, row.Result, row.Error, row.ID)
	switch {
	case took.Number > 0 && !row.gave(entries[took.Number]):
		a.found(2, "the task saw another reply than its call has", tree+" at "+took.Path, reply, fmt.Sprintf("what entry %d answered", took.Number))
	case took.Number == 0 && code(row.Error) != took.Code:
		a.found(2, "the task saw another reply than its call has", tree+" at "+took.Path, reply, "the error "+took.Code)
	}
}

// seen reads the runs of all trees from the tables, by tree.
func (a *auditor) seen(ctx context.Context) (map[string]*trees.Seen, error) {
	runs := map[string]*trees.Run{}
	treeOf, err := a.loadRuns(ctx, runs)
	if err != nil {
		return nil, fmt.Errorf("load runs: %w", err)
	}
	if err := a.loadLines(ctx, runs); err != nil {
		return nil, fmt.Errorf("load lines: %w", err)
	}
	if err := a.loadCalls(ctx, runs); err != nil {
		return nil, fmt.Errorf("load calls: %w", err)
	}
	seen := map[string]*trees.Seen{}
	for id, run := range runs {
		tree := treeOf[id]
		if seen[tree] == nil {
			seen[tree] = new(trees.Seen)
		}
		seen[tree].Runs = append(seen[tree].Runs, *run)
	}
	return seen, nil
}

// loadRuns fills runs by id, and returns the tree of each.
func (a *auditor) loadRuns(ctx context.Context, runs map[string]*trees.Run) (map[string]string, error) {
	rows, err := a.db.Query(ctx, `
		select id::text, coalesce(input->>'tree', ''), coalesce(input->>'path', ''), status, result, error,
			coalesce((select s.interrupt from public.stack_runs s where s.child_task_run_id = t.id limit 1), '')
		from public.task_runs t where task_name = $1`, trees.TaskName)
	if err != nil {
		return nil, err
	}
	of := map[string]string{}
	var id, tree string
	var r trees.Run
	var result, failure []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &tree, &r.Path, &r.Status, &result, &failure, &r.Interrupt}, func() error {
		run := &trees.Run{Path: r.Path, Status: r.Status, Interrupt: r.Interrupt, Result: append(json.RawMessage(nil), result...), Error: append(json.RawMessage(nil), failure...)}
		if exact, ok := a.cfg.Results[tree]; ok && run.Path == "0" {
			run.Result, run.Exact = exact, true
		}
		runs[id], of[id] = run, tree
		return nil
	})
	return of, err
}

func (a *auditor) loadLines(ctx context.Context, runs map[string]*trees.Run) error {
	rows, err := a.db.Query(ctx, `
		select task_run_id::text, message from amber.logs l
		where not exists (select from amber.attempts a join public.stack_runs s on s.id = a.stack_run_id
			where s.child_task_run_id = l.task_run_id and a.retry is not null and l.id > a.after_line and l.id <= a.last_line)
		order by id`)
	if err != nil {
		return err
	}
	var id, line string
	_, err = pgx.ForEachRow(rows, []any{&id, &line}, func() error {
		if r := runs[id]; r != nil {
			r.Lines = append(r.Lines, line)
		}
		return nil
	})
	return err
}

func (a *auditor) loadCalls(ctx context.Context, runs map[string]*trees.Run) error {
	rows, err := a.db.Query(ctx, `
		select parent_task_run_id::text, id::text, case when parent_stack_run_id is null then 0 else fault.execution(id, parent_stack_run_id) end as execution, call_id, service_name, method_name,
			case service_name when 'tasks' then jsonb_build_array(args->0, jsonb_build_object('path', args->1->'path')) else args end
		from public.stack_runs where call_id is not null and parent_task_run_id is not null order by execution, call_id`)
	if err != nil {
		return err
	}
	var id string
	var c trees.Call
	var args []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &c.ID, &c.Execution, &c.Number, &c.Service, &c.Method, &args}, func() error {
		if r := runs[id]; r != nil {
			call := c
			call.Args = append(json.RawMessage(nil), args...)
			r.Calls = append(r.Calls, call)
		}
		return nil
	})
	return err
}
