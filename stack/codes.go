package stack

import (
	"context"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Codes are not read again for each nested task. The suspension that makes a call of
// a task also learns which row of task_functions has its code: the transaction that
// wrote it. Code that this process has read from that row is the one.

// codesBytes bounds what a process keeps of tasks' code.
const codesBytes = 32 << 20

// codes are those that this process has read, by the task's name.
type codes struct {
	mu    sync.Mutex
	known map[string]Task
	bytes int
}

// of returns the code of a task, if it is that of that row.
func (c *codes) of(name, row string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.known[name]
	return t.Code, ok && row != "" && t.Row == row
}

// keep keeps a task's code, as long as there is room.
func (c *codes) keep(t Task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += len(t.Code) - len(c.known[t.Name].Code)
	if c.known == nil || c.bytes > codesBytes {
		c.known, c.bytes = map[string]Task{}, len(t.Code)
	}
	if len(t.Code) < codesBytes {
		c.known[t.Name] = t
	}
}

// code is the code that a body begins with.
func (p *Processor) code(ctx context.Context, b *Body) (string, error) {
	if code, ok := p.codes.of(b.Task, b.codeRow); ok {
		return code, nil
	}
	t, err := p.cfg.Store.Task(ctx, b.Task)
	if err != nil {
		return "", err
	}
	p.codes.keep(t)
	return t.Code, nil
}

// queueCodes has a transaction learn which rows have the codes of tasks.
func queueCodes(b *batch, all []Suspension, rows *map[string]string) {
	var names []string
	for _, sp := range all {
		for _, c := range sp.Calls {
			if c.TaskRun != uuid.Nil {
				names = append(names, c.Task)
			}
		}
	}
	if names == nil {
		return
	}
	b.Queue(`/* Suspend: codes */ select name, `+codeRow+` from public.task_functions where name = any(@names)`, namedArgs{"names": names}).
		Query(func(found pgx.Rows) error {
			*rows = map[string]string{}
			var name, row string
			_, err := pgx.ForEachRow(found, []any{&name, &row}, func() error { (*rows)[name] = row; return nil })
			return err
		})
}

// codeRow tells versions of a row of task_functions apart: the transaction that wrote
// it, and when, should a database have gone back to before that.
const codeRow = `xmin::text || ' ' || updated_at as row`
