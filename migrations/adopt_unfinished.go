package migrations

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// notBegun are the conditions under which work is left for amber to do: nobody
// has begun it, nobody who is gone waits for it, and it is recent. Calls are
// looked at after runs.
var notBegun = map[string]string{
	"task_runs": `r.status = 'queued' and r.created_at > now() - interval '%[1]d seconds' and not exists (
		select from public.stack_runs s where s.parent_task_run_id = r.id
			and not (s.status in ('pending', 'pending_execution') and s.parent_stack_run_id is null))`,
	"stack_runs": `r.status in ('pending', 'pending_execution') and r.created_at > now() - interval '%[1]d seconds'
		and r.parent_stack_run_id is null and not exists (
		select from public.task_runs t where t.id = r.parent_task_run_id and t.status <> 'queued')`,
}

// endUnfinished ends what the original left, as failed: amber would take up
// every pending row, however old.
func (a *adoption) endUnfinished(ctx context.Context) error {
	for _, name := range []string{"task_runs", "stack_runs"} {
		if !slices.Contains(a.old, name) {
			continue
		}
		if err := a.end(ctx, name, fmt.Sprintf(notBegun[name], int(recent.Seconds()))); err != nil {
			return err
		}
		if err := a.unknown(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (a *adoption) end(ctx context.Context, name, keep string) error {
	left := fmt.Sprintf(`(r.status is null or r.status in ('%s')) and not coalesce((%s), false)`, strings.Join(unfinished, `', '`), keep)
	byStatus, err := a.statuses(ctx, name, left)
	if err != nil || len(byStatus) == 0 {
		return err
	}
	if err := a.keep(ctx, name, left, "status", "error", "ended_at", "updated_at"); err != nil {
		return err
	}
	if _, err := exec(ctx, a.tx, `update public.`+name+` r set status = 'failed', ended_at = coalesce(ended_at, now()), updated_at = now(),
		error = jsonb_build_object('code', 'LEFT_BY_TASKER', 'message', format('It was %s when amber took over this database. `+
		`The system before had not ended it and amber cannot go on with it: start it again if it is still wanted.', coalesce(status, 'without a status')))
		where `+left); err != nil {
		return fmt.Errorf("end unfinished rows of %s: %w", name, err)
	}
	a.report.changed("%s: rows that were left unfinished (%s) are failed with the code LEFT_BY_TASKER; amber.adopted has what they were",
		name, counts(byStatus))
	return nil
}

// unknown names statuses that amber leaves alone because it does not know them,
// and what it is about to do.
func (a *adoption) unknown(ctx context.Context, name string) error {
	unknown, err := a.statuses(ctx, name, `r.status not in ('`+strings.Join(slices.Concat(finished, unfinished), `', '`)+`')`)
	if err != nil {
		return err
	}
	if len(unknown) > 0 {
		a.report.warn("%s: rows are kept in a status that amber does not know: %s", name, counts(unknown))
	}
	todo, err := a.statuses(ctx, name, `r.status in ('`+strings.Join(unfinished, `', '`)+`')`)
	if err != nil {
		return err
	}
	if len(todo) > 0 {
		a.report.warn("%s: rows of the last %d minutes that nobody has begun are amber's to do: %s", name, int(recent.Minutes()), counts(todo))
	}
	return nil
}

// statuses counts the rows that a condition selects, by status.
func (a *adoption) statuses(ctx context.Context, name, condition string) (map[string]int64, error) {
	rows, err := collect[struct {
		Status string
		N      int64
	}](ctx, a.tx, `select coalesce(r.status, 'without a status') as status, count(*) as n from public.`+name+` r where `+condition+` group by 1`)
	if err != nil {
		return nil, fmt.Errorf("count rows of %s: %w", name, err)
	}
	m := make(map[string]int64, len(rows))
	for _, r := range rows {
		m[r.Status] = r.N
	}
	return m, nil
}
