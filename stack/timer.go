package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
)

// Timer is a sleeping stack_run.
type Timer struct {
	ID, Parent uuid.UUID // Parent is uuid.Nil if it is no timer
	CallID     uint32
	Service    string          // "sleep" or "timer"
	In         time.Duration   // until it is due; negative when overdue
	Args       json.RawMessage // the first of them

	root uuid.UUID // of its run, if that is known, for the observer
}

// Timers returns up to limit sleeping rows that are due within the given time, soonest first.
func (s *Store) Timers(ctx context.Context, within time.Duration, limit int) ([]Timer, error) {
	rows, err := s.pool.Query(ctx, `/* Timers */
		select id, parent_stack_run_id, call_id, service_name, extract(epoch from due_at - statement_timestamp())::float8,
			jsonb_build_array(args -> 0) -- the rest may be large
		from public.stack_runs
		where status = 'sleeping' and due_at <= now() + make_interval(secs => @within)
		order by due_at, call_id limit @limit`,
		namedArgs{"within": within.Seconds(), "limit": limit})
	if err != nil {
		return nil, fmt.Errorf("list timers: %w", err)
	}
	timers, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Timer, error) {
		var t Timer
		var parent *uuid.UUID
		var callID *int64
		var in float64
		err := row.Scan(&t.ID, &parent, &callID, &t.Service, &in, &t.Args)
		t.Parent, t.In = orNil(parent), time.Duration(in*float64(time.Second))
		if !t.timer() {
			t.Parent = uuid.Nil
		}
		if callID != nil {
			t.CallID = uint32(*callID)
		}
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list timers: %w", err)
	}
	return timers, nil
}

// timer reports whether the row is a timer. Other rows sleep before somebody works
// for them: see WakeDue.
func (t Timer) timer() bool { return t.Service == serviceSleep || t.Service == serviceTimer }

// ending is how a timer ends: tools.sleep answers {slept, duration}, setTimeout nothing.
func (t Timer) ending() Ending {
	e := Ending{ID: t.ID, Parent: t.Parent, CallID: t.CallID}
	if t.Service == serviceSleep {
		e.Reply.Value = json.RawMessage(`{"slept":true,"duration":` + string(milliseconds(t.Args)) + `}`)
	}
	return e
}

// milliseconds is the duration as the task wrote it, from the args column; 0 if
// somebody put something else there.
func milliseconds(column json.RawMessage) json.RawMessage {
	var args []json.RawMessage
	var number float64
	if json.Unmarshal(column, &args) != nil || len(args) == 0 || string(args[0]) == "null" || json.Unmarshal(args[0], &number) != nil {
		return json.RawMessage("0")
	}
	return args[0]
}

// The services that are timers: tools.sleep(ms) and setTimeout.
const (
	serviceSleep = "sleep"
	serviceTimer = "timer"
)

// maxSleep bounds a timer: ten years.
const maxSleep = 10 * 365 * 24 * time.Hour

// timerDuration reads the milliseconds of a timer call. NaN and undefined
// arrive as null: they are mistakes, and not zero.
func timerDuration(call service.Call) (time.Duration, *service.Error) {
	var ms float64
	args := call.Args()
	if len(args) == 0 || string(args[0]) == "null" || json.Unmarshal(args[0], &ms) != nil {
		got := "nothing"
		if len(args) > 0 {
			got = fmt.Sprintf("%.40s", args[0])
		}
		return 0, service.Errorf(service.CodeInvalidArgument, "%s takes a number of milliseconds, not %s.", call.Service, got)
	}
	if ms > float64(maxSleep/time.Millisecond) {
		return 0, service.Errorf(service.CodeInvalidArgument, "%s takes at most ten years (%d ms).", call.Service, maxSleep/time.Millisecond)
	}
	return time.Duration(max(ms, 0) * float64(time.Millisecond)), nil
}
