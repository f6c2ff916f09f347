package stack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
)

// Task is named JavaScript with an entry function: a row of task_functions.
type Task struct {
	ID          uuid.UUID `json:"id"`
	Name        string    `json:"name"`
	Code        string    `json:"code"`
	Description string    `json:"description"`
	Version     string    `json:"version"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	Row         string    `json:"-"` // which version of the row it is
	// Retention is for Publish alone: how long its runs are kept when they have ended,
	// 0 for ever. Nil leaves it as it is, which for a new task is as hosts are told.
	Retention *time.Duration `json:"-" db:"-"`
}

const taskColumns = `id, name, code, coalesce(description, '') as description,
	coalesce(version, '') as version, created_at, updated_at, ` + codeRow

// Tasks returns every task, by name.
func (s *Store) Tasks(ctx context.Context) ([]Task, error) {
	rows, err := s.pool.Query(ctx, `/* Tasks */ select `+taskColumns+` from public.task_functions order by name`)
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	tasks, err := pgx.CollectRows(rows, pgx.RowToStructByName[Task])
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	return tasks, nil
}

// Task returns the task of that name; a *service.Error with code TASK_NOT_FOUND if there is none.
func (s *Store) Task(ctx context.Context, name string) (Task, error) {
	rows, err := s.pool.Query(ctx,
		`/* Task */ select `+taskColumns+` from public.task_functions where name = @name`,
		namedArgs{"name": name})
	if err != nil {
		return Task{}, fmt.Errorf("load task: %w", err)
	}
	task, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Task])
	if errors.Is(err, pgx.ErrNoRows) {
		return Task{}, service.Errorf(service.CodeTaskNotFound, "Task '%s' not found.", clip(name))
	}
	if err != nil {
		return Task{}, fmt.Errorf("load task: %w", err)
	}
	return task, nil
}

// clip shortens what somebody sent for a message.
func clip(s string) string {
	if len(s) <= 200 {
		return s
	}
	return strings.ToValidUTF8(s[:200], "") + "…"
}

// Publish stores a task's name, code, description and retention, and says what that
// changed: "created", "updated" or "unchanged". Runs that are suspended keep
// the code they started with. The code is taken as it is: check it first.
func (s *Store) Publish(ctx context.Context, t Task) (change string, err error) {
	err = s.tx(ctx, "publish task", func(tx pgx.Tx) error {
		args := namedArgs{"id": newID(), "name": t.Name, "code": t.Code, "description": t.Description, "retention": (*float64)(nil)}
		if t.Retention != nil {
			args["retention"] = t.Retention.Seconds()
		}
		var inserted bool
		err := tx.QueryRow(ctx, `/* Publish */
			insert into public.task_functions as f (id, name, code, description, retention)
			values (@id, @name, @code, @description, make_interval(secs => @retention))
			on conflict (name) do update
			set code = excluded.code, description = excluded.description, retention = coalesce(excluded.retention, f.retention), updated_at = now()
			where (f.code, f.description, f.retention) is distinct from (excluded.code, excluded.description, coalesce(excluded.retention, f.retention))
			returning xmax = 0`, args).Scan(&inserted)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			change = "unchanged"
			return nil
		case err != nil:
			return err
		case inserted:
			change = "created"
		default:
			change = "updated"
		}
		return nil
	})
	return change, err
}
