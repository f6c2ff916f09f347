package stack

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// What has ended is kept for a while and then removed, in batches that are small and
// far between. A tree goes as a whole, when its root has been over for its retention:
// what ended long ago within one that goes on stays. There is one row that whoever
// removes holds meanwhile, and that says when the next batch may begin: so one host
// at a time does it, and however many there are, they take the same share of the
// database.

// removeBatch is how many rows of runs, calls and log lines one transaction removes,
// about: replies and the like come on top.
const removeBatch = 500

// restAfter is how long nobody removes after a batch, in times of what it took.
const restAfter = 4

// LeastRetention is longer than a client may wait for a run that has ended.
const LeastRetention = 10 * time.Minute

// ParseRetention reads for how long runs are kept: a duration, or "off" or 0 for ever,
// which is 0. Its error says what is wanted.
func ParseRetention(text string) (time.Duration, error) {
	if text == "off" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil || d < 0:
		return 0, fmt.Errorf("%q is not a time for which runs are kept: want something like 168h (7 days), or off to keep them for ever", clip(text))
	case d > 0 && d < LeastRetention:
		return 0, fmt.Errorf("%q: want at least %v, so that clients can still read how their runs ended, or off to keep runs for ever", text, LeastRetention)
	}
	return d, nil
}

// Removed is what [Store.RemoveEnded] did.
type Removed struct {
	Rows int           // of task_runs, stack_runs and logs
	Over bool          // nothing is left that is to go now, or others see to it
	Rest time.Duration // after which the next batch may begin, if it is not over
	Kept error         // why a run stays that was to go: something refers to it, or forbids it
}

// removal is how far removing has come.
type removal struct {
	Since time.Time // what had ended by then is kept unless its task says how long
	Task  string
	At    time.Time
	Run   uuid.UUID
	Part  *uuid.UUID
}

// RemoveEnded removes a batch of what ended longer ago than retention, 0 for none,
// or than its task says, if it is time for one and nobody else does. After the last
// one of a round the next round begins when again has passed.
func (s *Store) RemoveEnded(ctx context.Context, retention, again time.Duration) (did Removed, err error) {
	err = s.tx(ctx, "remove ended runs", func(tx pgx.Tx) error {
		var r removal
		err := tx.QueryRow(ctx, `/* RemoveEnded: turn */
			select greatest(since, 'epoch'), task, at, run, part
			from amber.removal where next_at <= clock_timestamp() for update skip locked`).Scan(&r.Since, &r.Task, &r.At, &r.Run, &r.Part)
		if errors.Is(err, pgx.ErrNoRows) {
			did.Over = true
			return nil
		}
		if err != nil {
			return err
		}
		if did, err = removeDue(ctx, tx, &r, retention); err != nil {
			return err
		}
		return removeNext(ctx, tx, r, &did, again)
	})
	return did, err
}

// removeDue removes what is due from r on, as much as a batch may have, and moves r.
func removeDue(ctx context.Context, tx pgx.Tx, r *removal, retention time.Duration) (did Removed, err error) {
	var due []removal
	if r.Part != nil {
		due = []removal{{Task: r.Task, At: r.At, Run: *r.Part}}
	} else if due, err = removable(ctx, tx, *r, retention); err != nil {
		return did, err
	}
	trees := make([]uuid.UUID, len(due))
	for i, d := range due {
		trees[i] = d.Run
	}
	wasPart := r.Part != nil
	done, err := removeTrees(ctx, tx, trees, r, &did)
	if refused(err) && len(trees) > 1 { // one of them cannot go: those before it can, one at a time
		trees = trees[:1]
		done, err = removeTrees(ctx, tx, trees, r, &did)
	}
	if refused(err) && len(trees) == 1 {
		did.Kept = fmt.Errorf("run %s: %w", trees[0], err)
		done, err, r.Part = 1, nil, nil
		r.Run = trees[0]
	}
	if err != nil {
		return did, err
	}
	if done > 0 && !wasPart {
		last := due[done-1]
		r.Task, r.At, r.Run = last.Task, last.At, last.Run
	}
	if wasPart || done < len(due) || len(due) == removeBatch || did.Kept != nil {
		return did, nil
	}
	alone, err := removeAlone(ctx, tx, *r, retention)
	did.Rows += alone
	did.Over = alone < removeBatch
	return did, err
}

// removeTrees removes trees, as much as a batch may have, or nothing.
func removeTrees(ctx context.Context, tx pgx.Tx, trees []uuid.UUID, r *removal, did *Removed) (done int, err error) {
	part, rows := r.Part, 0
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `/* RemoveEnded: trees */ select done, removed, part from amber.remove_trees(@trees, @most, @part)`,
			namedArgs{"trees": trees, "most": removeBatch, "part": r.Part}).Scan(&done, &rows, &part)
	})
	if err == nil {
		did.Rows, r.Part = rows, part
	}
	return done, err
}

// removable are the runs that are due after r, in the order of their tasks' names,
// oldest first. A task's name is looked up among the runs: they may be of tasks that
// are gone. Each step goes down an index, so that what stays is not looked at.
func removable(ctx context.Context, tx pgx.Tx, r removal, retention time.Duration) ([]removal, error) {
	const root = `t.parent_run_id is null and t.status in ('completed', 'failed', 'cancelled')`
	rows, err := tx.Query(ctx, `/* RemoveEnded: due */
		with recursive names as (
			(select t.task_name as name from public.task_runs t where `+root+` and t.task_name >= @task order by t.task_name limit 1)
			union all
			select (select t.task_name from public.task_runs t where `+root+` and t.task_name > n.name order by t.task_name limit 1)
			from names n where n.name is not null
		)
		select n.name, due.at, due.id
		from names n cross join lateral (
			select coalesce(f.retention, make_interval(secs => @retention)) as keep, f.retention is not null as own
			from (select (select f.retention from public.task_functions f where f.name = n.name) as retention) f
		) r cross join lateral (
			select t.id, coalesce(t.ended_at, t.created_at) as at from public.task_runs t
			where `+root+` and t.task_name = n.name
				and (t.task_name, coalesce(t.ended_at, t.created_at), t.id) > (@task, @at::timestamptz, @run)
				and coalesce(t.ended_at, t.created_at) < case when r.keep > '0' then now() - r.keep end
				and coalesce(t.ended_at, t.created_at) > case when r.own then '-infinity' else @since::timestamptz end
				and coalesce(t.ended_at, t.updated_at, t.created_at) < now() - r.keep
			order by coalesce(t.ended_at, t.created_at), t.id limit @limit
		) due
		where n.name is not null limit @limit`,
		namedArgs{"task": r.Task, "at": r.At, "run": r.Run, "since": r.Since, "retention": secondsOf(retention), "limit": removeBatch})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (d removal, err error) {
		err = row.Scan(&d.Task, &d.At, &d.Run)
		return d, err
	})
}

// removeAlone removes calls that belong to no run, of which no task says how long
// they are kept.
func removeAlone(ctx context.Context, tx pgx.Tx, r removal, retention time.Duration) (int, error) {
	if retention == 0 {
		return 0, nil
	}
	const alone = `s.parent_stack_run_id is null and s.parent_task_run_id is null and s.child_task_run_id is null
		and s.status in ('completed', 'failed', 'cancelled')`
	tag, err := tx.Exec(ctx, `/* RemoveEnded: alone */
		delete from public.stack_runs where id = any(array(
			select s.id from public.stack_runs s
			where `+alone+` and coalesce(s.ended_at, s.created_at) < now() - make_interval(secs => @retention)
				and coalesce(s.ended_at, s.created_at) > @since and coalesce(s.ended_at, s.updated_at, s.created_at) < now() - make_interval(secs => @retention)
			order by coalesce(s.ended_at, s.created_at) limit @limit for update skip locked))`,
		namedArgs{"since": r.Since, "retention": retention.Seconds(), "limit": removeBatch})
	return int(tag.RowsAffected()), err
}

// removeNext says when the next batch may begin, and where.
func removeNext(ctx context.Context, tx pgx.Tx, r removal, did *Removed, again time.Duration) error {
	if did.Over {
		r = removal{}
	}
	var rest float64
	err := tx.QueryRow(ctx, `/* RemoveEnded: next */
		update amber.removal set task = @task, at = greatest(@at, 'epoch'::timestamptz), run = @run, part = @part,
			next_at = clock_timestamp() + case when @over then make_interval(secs => @again)
				when @rows::int = 0 then interval '1 second' else @times::int * (clock_timestamp() - now()) end
		returning extract(epoch from next_at - clock_timestamp())::float8`,
		namedArgs{"task": r.Task, "at": r.At, "run": r.Run, "part": r.Part, "over": did.Over, "rows": did.Rows, "again": again.Seconds(), "times": restAfter}).Scan(&rest)
	if err != nil {
		return fmt.Errorf("note how far it has come: %w", err)
	}
	did.Rest = time.Duration(rest * float64(time.Second))
	return nil
}

// secondsOf is null for no time.
func secondsOf(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	seconds := d.Seconds()
	return &seconds
}
