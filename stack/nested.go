package stack

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
)

// A tree is a run and all that are nested in it. What a task may do is bounded
// for each run; how many runs a tree may have bounds all of it. Hosts count in
// blocks that they reserve in the database, so a tree may have as many blocks
// more as there are hosts, and small trees cost nothing.

const (
	nestedFree  = 256 // nested tasks of a tree that a host counts by itself
	nestedBlock = 1 << 10
	treesKnown  = 10_000 // trees that a host remembers; of the others it starts to count anew
)

// nested is what this host has reserved for trees. It is safe for concurrent use.
type nested struct {
	most int

	mu   sync.Mutex
	left map[uuid.UUID]int // by root
}

// take takes one from what is reserved for a tree, if there is one.
func (t *nested) take(root uuid.UUID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	left, known := t.left[root]
	if !known {
		left = min(nestedFree, t.most)
		for other := range t.left { // any of them
			if len(t.left) < treesKnown {
				break
			}
			delete(t.left, other)
		}
	}
	t.left[root] = max(0, left-1)
	return left > 0
}

func (t *nested) reserve(root uuid.UUID, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n > 0 { // else the tree may not be known yet
		t.left[root] += n
	}
}

// countNested refuses those of the calls that would start more tasks than their
// tree may have, and returns how many of the others it has counted, also when it fails.
func (p *Processor) countNested(ctx context.Context, root uuid.UUID, calls []Child) (counted int, err error) {
	full := p.nested.most <= nestedFree // there is nothing to reserve
	for i := range calls {
		c := &calls[i]
		if c.TaskRun == uuid.Nil {
			continue
		}
		if p.nested.take(root) {
			counted++
			continue
		}
		if !full {
			n, err := p.cfg.Store.reserveNested(ctx, root, nestedBlock, p.nested.most-nestedFree)
			if err != nil {
				return counted, err
			}
			p.nested.reserve(root, n)
			full = n == 0
		}
		if !full && p.nested.take(root) {
			counted++
			continue
		}
		c.TaskRun = uuid.Nil
		c.Refused = service.Errorf(service.CodeNestedLimit,
			"The task %s is not started: the run %s and those nested in it have started %d tasks, which is all they may.", clip(c.Task), root, p.nested.most)
	}
	return counted, nil
}

// reserveNested reserves n more tasks for a tree that may have most, and returns n,
// or 0 if it has them all.
func (s *Store) reserveNested(ctx context.Context, root uuid.UUID, n, most int) (int, error) {
	err := s.pool.QueryRow(ctx, `/* reserveNested */
		insert into amber.nested as t (root, tasks) values (@root, @n)
		on conflict (root) do update set tasks = t.tasks + @n where t.tasks < @most
		returning @n::int`,
		namedArgs{"root": root, "n": min(n, most), "most": most}).Scan(&n)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count nested tasks: %w", err)
	}
	return n, nil
}

// forgetNested forgets trees whose root has ended or is gone: of what still runs
// below it little can come.
func (s *Store) forgetNested(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `/* forgetNested */
		delete from amber.nested n where not exists (
			select from public.task_runs t where t.id = n.root and t.status not in ('completed', 'failed', 'cancelled'))`)
	if err != nil {
		return fmt.Errorf("forget counts of nested tasks: %w", err)
	}
	return nil
}
