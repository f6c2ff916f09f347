package audit

import (
	"context"
	"encoding/json"
	"fmt"

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
		verdict := tree.Check(*s)
		for _, c := range verdict.Complaints {
			a.found(5, "a tree was not played as it must be", tree.ID+" at "+c.Path, c.Want, c.Got)
		}
		for path, number := range verdict.Took {
			a.checkTook(tree.ID, path, number, entries)
		}
	}
	for id, s := range seen {
		a.found(5, "runs of a tree that nobody started", id, "none", fmt.Sprint(len(s.Runs)))
	}
	return nil
}

// checkTook compares the answer that a task saw with the reply in the row.
func (a *auditor) checkTook(tree, path string, number int64, entries map[int64]ledger.Entry) {
	row, e := a.paths[tree+" "+path], entries[number]
	if number == 0 || row == nil || row.Status != "completed" && row.Status != "failed" || row.gave(e) {
		return
	}
	a.found(2, "the task saw another reply than its call has", tree+" at "+path,
		fmt.Sprintf("%s %s%s in row %s", row.Status, row.Result, row.Error, row.ID), fmt.Sprintf("what entry %d answered", number))
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
		select id::text, coalesce(input->>'tree', ''), coalesce(input->>'path', ''), status, result, error
		from public.task_runs where task_name = $1`, trees.TaskName)
	if err != nil {
		return nil, err
	}
	of := map[string]string{}
	var id, tree string
	var r trees.Run
	var result, failure []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &tree, &r.Path, &r.Status, &result, &failure}, func() error {
		run := &trees.Run{Path: r.Path, Status: r.Status, Result: append(json.RawMessage(nil), result...), Error: append(json.RawMessage(nil), failure...)}
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
		select parent_task_run_id::text, call_id, service_name, method_name,
			case service_name when 'tasks' then jsonb_build_array(args->0, jsonb_build_object('path', args->1->'path')) else args end
		from public.stack_runs where call_id is not null and parent_task_run_id is not null order by call_id`)
	if err != nil {
		return err
	}
	var id string
	var c trees.Call
	var args []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &c.Number, &c.Service, &c.Method, &args}, func() error {
		if r := runs[id]; r != nil {
			call := c
			call.Args = append(json.RawMessage(nil), args...)
			r.Calls = append(r.Calls, call)
		}
		return nil
	})
	return err
}
