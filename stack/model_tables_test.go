package stack_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/stack"
)

// shape is what the model says of a row of stack_runs and what hangs on it.
type shape struct {
	ID, Parent, Owner, Run uuid.UUID // its caller's body, its caller's run, its own run if it is a body
	Service                string
	CallID                 int64 // -1: a run's own body
	Status                 string
	Host                   uuid.UUID
	Sequence               int64
	Delivered, Stuck       bool
	Attempt                int
	Engine                 string
	Result, Error          string
	Asked, Replied         bool   // there are exact bytes
	Snapshots              string // their numbers, in order
	Crashes                int
	CrashSequence          int64
	Interrupt              string // why it is to end
	Told                   bool   // it knows
	Timed, Late            bool   // it has only so much time; and that is over
	Begins                 int64  // the sequence at which a body began
	Tries                  int    // that failed before this one
	Kept                   string // the tries that are kept, and how those that a retry took up were

	RunStatus, RunResult, RunError string
	RunStuck                       bool
}

func (s shape) String() string {
	text := fmt.Sprintf("%s %s %d of %s: %s at %d", s.ID, s.Service, s.CallID, s.Parent, s.Status, s.Sequence)
	add := func(name string, value any) {
		if v := fmt.Sprint(value); v != "" && v != "false" && v != "0" && v != uuid.Nil.String() {
			text += fmt.Sprintf(", %s %s", name, v)
		}
	}
	for _, field := range []struct {
		name  string
		value any
	}{
		{"held by", s.Host}, {"delivered", s.Delivered}, {"stuck", s.Stuck}, {"attempts", s.Attempt}, {"engine", s.Engine}, {"result", s.Result},
		{"error", s.Error}, {"asked", s.Asked}, {"replied", s.Replied}, {"snapshots", s.Snapshots}, {"crashes", s.Crashes}, {"crashed at", s.CrashSequence},
		{"is to end for", s.Interrupt}, {"told", s.Told}, {"timed", s.Timed}, {"late", s.Late},
		{"began at", s.Begins}, {"failed tries", s.Tries}, {"kept tries", s.Kept},
		{"owner", s.Owner}, {"run", s.Run}, {"run is", s.RunStatus}, {"its result", s.RunResult}, {"its error", s.RunError}, {"run stuck", s.RunStuck},
	} {
		add(field.name, field.value)
	}
	return text
}

// tables are what was read of all of them at one moment.
type tables struct {
	rows  map[uuid.UUID]shape
	final map[uuid.UUID]string // of rows that have ended: all that is kept of how
	keys  map[uuid.UUID]string // the idempotency keys of calls
	asked map[uuid.UUID]string // digests of what rows were asked
	hosts map[uuid.UUID]bool   // whether their leases last
	runs  int                  // rows of task_runs
	spare int                  // snapshots, replies and counts without a row
}

// row is one as SQL has it.
type tableRow struct {
	shape
	Final, Question, Key string
}

const readRows = `
	select s.id, coalesce(s.parent_stack_run_id, @none) as parent, coalesce(s.parent_task_run_id, @none) as owner, coalesce(s.child_task_run_id, @none) as run,
		s.service_name as service, coalesce(s.call_id, -1) as call_id, s.status, coalesce(s.claimed_by, @none) as host, s.sequence, s.delivered,
		s.stuck_reason is not null as stuck, s.attempt, coalesce(s.engine, '') as engine, coalesce(s.result::text, '') as result,
		coalesce(s.error->>'message', '') as error, q.data is not null as asked, r.data is not null as replied,
		coalesce((select string_agg(n.sequence::text, ' ' order by n.sequence) from amber.snapshots n where n.stack_run_id = s.id), '') as snapshots,
		coalesce(c.times, 0) as crashes, coalesce(c.sequence, 0) as crash_sequence,
		coalesce(s.interrupt, '') as interrupt, s.interrupted_at is not null as told,
		s.deadline_at is not null as timed, coalesce(s.deadline_at <= now(), false) as late,
		s.first_sequence as begins, s.tries,
		coalesce((select string_agg(concat(a.attempt, a.retry), ' ' order by a.id) from amber.attempts a where a.stack_run_id = s.id), '') as kept,
		coalesce(t.status, '') as run_status, coalesce(t.result::text, '') as run_result, coalesce(t.error->>'message', '') as run_error,
		t.stuck_reason is not null as run_stuck,
		case when s.status in ('completed', 'failed', 'cancelled')
			then concat_ws(' ', s.status, s.result, s.error, s.ended_at, md5(r.data), t.status, t.result, t.error, t.ended_at) else '' end as final,
		coalesce(md5(q.data), '') as question, coalesce(s.idempotency_key, '') as key
	from public.stack_runs s left join public.task_runs t on t.id = s.child_task_run_id
		left join amber.replies q on q.stack_run_id = s.id and q.kind = 'request'
		left join amber.replies r on r.stack_run_id = s.id and r.kind = 'reply'
		left join amber.crashes c on c.stack_run_id = s.id`

// readText is every column of every row that a verb may touch.
const readText = `
	select coalesce(string_agg(line, E'\n' order by line), '') from (
		select s::text as line from public.stack_runs s
		union all select t::text from public.task_runs t
		union all select concat_ws(' ', n.tableoid, n.stack_run_id, n.sequence, n.key_id, md5(n.data), n.updated_at) from amber.snapshots n
		union all select concat_ws(' ', r.stack_run_id, r.kind, md5(r.data), r.created_at) from amber.replies r
		union all select h::text from amber.hosts h
		union all select c::text from amber.crashes c
		union all select a::text from amber.attempts a
		union all select f::text from amber.failures f
		union all select l::text from amber.logs l) lines`

const readSpare = `
	select (select count(*) from public.task_runs)::int,
		((select count(*) from amber.snapshots n where not exists (select from public.stack_runs s where s.id = n.stack_run_id))
		+ (select count(*) from amber.replies r where not exists (select from public.stack_runs s where s.id = r.stack_run_id))
		+ (select count(*) from amber.attempts a where not exists (select from public.stack_runs s where s.id = a.stack_run_id))
		+ (select count(*) from amber.failures f where not exists (select from public.stack_runs s where s.id = f.stack_run_id))
		+ (select count(*) from public.task_runs t where (select count(*) from public.stack_runs s where s.child_task_run_id = t.id) <> 1))::int`

// read reads the tables while nobody works.
func (w *world) read() (found tables, text string) {
	found = tables{rows: map[uuid.UUID]shape{}, final: map[uuid.UUID]string{}, asked: map[uuid.UUID]string{}, keys: map[uuid.UUID]string{}, hosts: map[uuid.UUID]bool{}}
	var b pgx.Batch
	b.Queue(readRows, pgx.StrictNamedArgs{"none": uuid.Nil}).Query(func(rows pgx.Rows) error {
		all, err := pgx.CollectRows(rows, pgx.RowToStructByName[tableRow])
		for _, r := range all {
			found.rows[r.ID], found.final[r.ID], found.asked[r.ID] = r.shape, r.Final, r.Question
			found.keys[r.ID] = r.Key
		}
		return err
	})
	b.Queue(`select id, expires_at > now() from amber.hosts`).Query(func(rows pgx.Rows) error {
		var id uuid.UUID
		var live bool
		_, err := pgx.ForEachRow(rows, []any{&id, &live}, func() error { found.hosts[id] = live; return nil })
		return err
	})
	b.Queue(readSpare).QueryRow(func(row pgx.Row) error { return row.Scan(&found.runs, &found.spare) })
	b.Queue(readText).QueryRow(func(row pgx.Row) error { return row.Scan(&text) })
	if err := w.d.pool.SendBatch(context.Background(), &b).Close(); err != nil {
		w.t.Fatalf("read tables: %v", err)
	}
	return found, text
}

// history is what the tables were at the step before.
type history map[uuid.UUID]past

type past struct {
	shape
	final, asked, key string
}

// changes notes the tables and returns what may never happen between two steps,
// whatever the model says.
func (h history) changes(found tables) (wrong []string) {
	for id, was := range h {
		is, there := found.rows[id]
		how := retaken(was.shape, is)
		switch {
		case !there:
			wrong = append(wrong, fmt.Sprintf("row %s is gone", id))
		case how != "" && (was.final == "" || was.Status == stack.StatusCompleted):
			wrong = append(wrong, fmt.Sprintf("a retry took up %s, which had not failed", id))
		case was.asked == found.asked[id] && was.key != found.keys[id] && how != retryAgain:
			wrong = append(wrong, fmt.Sprintf("%s has another idempotency key", id))
		case was.asked == found.asked[id] && how != "": // it is another row from then on
		case was.final != "" && found.final[id] != was.final:
			wrong = append(wrong, fmt.Sprintf("a reply changed: %s was %s, is %s", id, was.final, found.final[id]))
		case was.asked != found.asked[id]:
			wrong = append(wrong, fmt.Sprintf("what %s was asked changed", id))
		case was.Delivered && !is.Delivered && (h[was.Parent].final == "" || retaken(h[was.Parent].shape, found.rows[was.Parent]) != retryResume):
			wrong = append(wrong, fmt.Sprintf("the reply of %s is given again", id))
		case was.Interrupt != "" && is.Interrupt != was.Interrupt, was.Told && !is.Told:
			wrong = append(wrong, fmt.Sprintf("%s was to end, and is not, or for another reason", id))
		case is.Tries < was.Tries || is.Tries > was.Tries+1, is.Begins < was.Begins, !strings.HasPrefix(is.Kept, was.Kept):
			wrong = append(wrong, fmt.Sprintf("%s has other tries behind it than it had", id))
		case was.Told && was.Status != stack.StatusProcessing && is.Status == stack.StatusProcessing && endsFirst(h, found, id):
			wrong = append(wrong, fmt.Sprintf("%s goes on before those below it have ended", id))
		case is.Sequence < was.Sequence || is.Sequence > was.Sequence+1:
			wrong = append(wrong, fmt.Sprintf("%s went from snapshot %d to %d", id, was.Sequence, is.Sequence))
		}
	}
	for id, s := range found.rows {
		h[id] = past{s, found.final[id], found.asked[id], found.keys[id]}
	}
	return wrong
}

// retaken is how a retry of its run took up a row since, if one did.
func retaken(was, is shape) string {
	for _, try := range strings.Fields(strings.TrimPrefix(is.Kept, was.Kept)) {
		if how := strings.TrimLeft(try, "0123456789"); how != "" {
			return how
		}
	}
	return ""
}

// endsFirst reports whether a body that was to end after others, and waited for them,
// still has some of them below it.
func endsFirst(h history, found tables, body uuid.UUID) bool {
	for id, was := range h {
		if is := found.rows[id]; was.Parent == body && was.Interrupt != "" && !final(was.Status) && !final(is.Status) {
			return true
		}
	}
	return false
}

func final(status string) bool {
	return status == stack.StatusCompleted || status == stack.StatusFailed || status == stack.StatusCancelled
}

// illegal returns what may not be in the tables at any moment. Of the model it
// takes only which calls were ended by hand.
func illegal(found tables, m *model) (wrong []string) {
	add := func(s shape, what string) { wrong = append(wrong, what+": "+s.String()) }
	open, unseen := map[uuid.UUID]int{}, map[uuid.UUID]int{}
	first := map[uuid.UUID]bool{} // bodies that have others below them which are to end before them
	numbers := map[string]bool{}
	for _, s := range found.rows {
		ended := found.final[s.ID] != ""
		if !ended {
			open[s.Parent]++
			first[s.Parent] = first[s.Parent] || s.Interrupt != ""
		} else if s.CallID < 0 { // it was made before its caller began anew
		} else if !s.Delivered && !m.row(s.ID).aged {
			unseen[s.Parent]++
		} else if !s.Delivered {
			open[s.Parent]++ // for which Reap wakes
		}
		if number := fmt.Sprint(s.Parent, s.CallID); s.Parent != uuid.Nil && !m.row(s.ID).old {
			if numbers[number] {
				add(s, "two rows for one call")
			}
			numbers[number] = true
		}
	}
	for _, s := range found.rows {
		ended := found.final[s.ID] != ""
		body := s.Run != uuid.Nil
		newest := s.Snapshots[strings.LastIndex(s.Snapshots, " ")+1:]
		switch {
		case s.Status == stack.StatusWaiting && unseen[s.ID] > 0 && !(s.Told && first[s.ID]):
			add(s, "a lost wake: it waits, and a call has ended")
		case s.Status == stack.StatusWaiting && open[s.ID] == 0:
			add(s, "it waits for nothing")
		case ended && open[s.ID] > 0 && slices.ContainsFunc(m.calls(s.ID), func(c *modelRow) bool { return !c.ended() }):
			add(s, "it has ended, and calls of it are open")
		case (s.Status == stack.StatusProcessing) != (s.Host != uuid.Nil):
			add(s, "it is held by nobody, or by somebody although it is not being worked for")
		case body && (ended && s.RunStatus != s.Status || !ended && final(s.RunStatus)):
			add(s, "its run and its body do not agree")
		case ended && s.Snapshots != "" && s.Status != stack.StatusFailed:
			add(s, "it has ended and has a snapshot")
		case s.Status == stack.StatusFailed && s.Snapshots != "" && found.final[s.Parent] != "" && found.rows[s.Parent].Status != stack.StatusFailed:
			add(s, "it has a snapshot, and its caller will not go on")
		case !ended && s.Sequence > s.Begins && newest != fmt.Sprint(s.Sequence):
			add(s, "its newest snapshot is not its last")
		case s.Sequence == s.Begins && s.Snapshots != "":
			add(s, "it has a snapshot and was never suspended since it began")
		case s.Status == stack.StatusSleeping && (open[s.ID] > 0 || s.Sequence > s.Begins):
			add(s, "it sleeps, and has not begun anew")
		case s.Interrupt != "" && !(body && s.Timed) || s.Told && s.Interrupt == "":
			add(s, "it is to end for no reason, or has all the time there is, or is no body")
		case s.Interrupt == "cancel" && ended && s.Status != stack.StatusCancelled, s.Interrupt != "" && s.Status == stack.StatusCompleted:
			add(s, "it was to end, and has ended as something else")
		}
	}
	if found.spare > 0 {
		wrong = append(wrong, fmt.Sprintf("there are %d snapshots, replies and runs that belong to no row, or to two", found.spare))
	}
	return wrong
}
