package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// What other hosts may end is looked for at intervals that grow from the first
// to the last of these, in one query for all who wait; ends in this process are
// heard at once.
const (
	firstPoll = 25 * time.Millisecond
	lastPoll  = 500 * time.Millisecond
)

// lookoutShare bounds what looking out costs: it rests so many times as long as
// its last query took.
const lookoutShare = 10

// Wait returns the run when it has ended, or as it is when ctx is done.
// ErrRunNotFound if there is none.
func (p *Processor) Wait(ctx context.Context, id uuid.UUID) (Run, error) {
	land, cancel := mustLand(ctx) // although the time to wait may be over
	defer cancel()
	run, status, err := p.cfg.Store.status(land, id)
	if err != nil {
		return Run{}, err
	}
	if !ended(status) {
		err = p.poll(ctx, run, func(land context.Context) (bool, error) {
			_, status, err := p.cfg.Store.status(land, run)
			return ended(status), err
		})
		if err != nil {
			return Run{}, err
		}
	}
	land, cancel = mustLand(ctx)
	defer cancel()
	return p.cfg.Store.Run(land, run)
}

// poll returns when the row with that id has ended, which look says, or ctx is done.
func (p *Processor) poll(ctx context.Context, id uuid.UUID, look func(context.Context) (ended bool, err error)) error {
	end := make(chan struct{}, 1)
	p.watch(id, end)
	defer p.unwatch(id, end)
	for {
		land, cancel := mustLand(ctx)
		ended, err := look(land)
		cancel()
		if err != nil || ended || ctx.Err() != nil {
			return err
		}
		select {
		case <-end:
		case <-ctx.Done():
		}
	}
}

// status finds the run that id stands for, as [Store.Run] does, and its status,
// without what may be large.
func (s *Store) status(ctx context.Context, id uuid.UUID) (run uuid.UUID, status string, err error) {
	err = s.pool.QueryRow(ctx, `/* status */
		select id, status from public.task_runs
		where id = coalesce(
			(select t.id from public.task_runs t where t.id = @id),
			(select coalesce(s.child_task_run_id, s.parent_task_run_id) from public.stack_runs s where s.id = @id))`,
		namedArgs{"id": id}).Scan(&run, &status)
	if errors.Is(err, pgx.ErrNoRows) {
		return run, status, ErrRunNotFound
	}
	if err != nil {
		return run, status, fmt.Errorf("look at run: %w", err)
	}
	return run, status, nil
}

// over returns which of these runs and rows have ended or are gone.
func (s *Store) over(ctx context.Context, ids []uuid.UUID) ([]uuid.UUID, error) {
	rows, err := s.pool.Query(ctx, `/* over */
		select id from unnest(@ids::uuid[]) as waited (id)
		where not exists (select from public.task_runs t
				where t.id = waited.id and t.status not in ('completed', 'failed', 'cancelled'))
			and not exists (select from public.stack_runs s
				where s.id = waited.id and s.status not in ('completed', 'failed', 'cancelled'))`,
		namedArgs{"ids": ids})
	if err != nil {
		return nil, fmt.Errorf("look out: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look out: %w", err)
	}
	return found, nil
}

// lookOut tells waiters what has ended elsewhere, as long as there are any. If
// the database is away it tells all: each then finds out for itself.
func (p *Processor) lookOut() {
	rest := firstPoll
	for {
		select {
		case <-time.After(rest):
		case <-p.unwatched:
		}
		p.mu.Lock()
		ids := slices.Collect(maps.Keys(p.waiters))
		fresh := p.fresh
		p.fresh, p.lookingOut = false, len(ids) > 0
		p.mu.Unlock()
		if len(ids) == 0 {
			return
		}
		if fresh {
			rest = firstPoll
		}
		began := time.Now()
		land, cancel := mustLand(context.Background())
		gone, err := p.cfg.Store.over(land, ids)
		cancel()
		if err != nil {
			gone = ids
		}
		for _, id := range gone {
			p.tell(id)
		}
		rest = max(min(rest*3/2, lastPoll), lookoutShare*time.Since(began))
	}
}

func (p *Processor) watch(id uuid.UUID, end chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiters[id] == nil {
		p.waiters[id] = map[chan struct{}]struct{}{}
	}
	p.waiters[id][end] = struct{}{}
	p.fresh = true
	if !p.lookingOut {
		p.lookingOut = true
		go p.lookOut()
	}
}

func (p *Processor) unwatch(id uuid.UUID, end chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiters[id], end)
	if len(p.waiters[id]) == 0 {
		delete(p.waiters, id)
	}
	if len(p.waiters) == 0 {
		select {
		case p.unwatched <- struct{}{}:
		default:
		}
	}
}

// ended tells waiters and the observer of committed endings.
func (p *Processor) ended(endings ...Ending) {
	for _, e := range endings {
		p.ended(e.Settled...)
		p.observeEnded(&e)
		p.tell(e.ID)
		p.tell(e.TaskRun)
	}
}

// tell wakes who waits for the end of a run or a row.
func (p *Processor) tell(id uuid.UUID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for end := range p.waiters[id] {
		select {
		case end <- struct{}{}:
		default:
		}
	}
}
