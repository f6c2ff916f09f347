package stack_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/amberhost/amber/stack"
)

// racers are verbs of one transaction.
var racers = []string{"Claim", "Suspend", "Suspend next", "Suspend more", "Complete call", "Complete next", "Complete body", "Answer", "lease", "Reap", "give back", "Cancel", "Expire", "Again", "WakeDue", "RetryRun"}

// race does any two verbs at once.
func (w *world) race() {
	first := w.racer("first")
	if about := first.about; len(about) > 0 && w.chance(80, "near") {
		w.near = about[w.number(0, len(about)-1, "near which")]
		defer func() { w.near = uuid.Nil }()
	}
	second := w.racer("second")
	w.together([2]verb{first, second}, slices.Concat(first.about, second.about))
}

// duel does at once what is most likely to collide: something with a row, and with a
// body above it.
func (w *world) duel() {
	type pair struct {
		low   uuid.UUID
		above work
	}
	var pairs []pair
	for _, k := range w.works {
		if !w.fresh(k) {
			continue
		}
		for _, id := range w.some(func(r *modelRow) bool { return r.ID != k.id && !r.ended() && w.below(r, k.id) }) {
			pairs = append(pairs, pair{id, k})
		}
	}
	w.tally.pairs += min(1, len(pairs))
	p, ok := pick(w, pairs, "pair", func(p pair) uuid.UUID { return p.low })
	if !ok {
		w.step(w.drawn("Suspend"))
		return
	}
	low, ok := w.lower(p.low)
	if !ok {
		low = w.reap()
	}
	high, ok := w.suspends(p.above)
	if !ok || w.chance(50, "the end") {
		high, ok = w.completes(p.above)
	}
	if w.chance(10, "anew") {
		high, ok = w.begins(p.above)
	}
	if w.chance(20, "interrupt") {
		high, ok = w.cancel(w.anyHost(), p.above.id, w.drawGrace()), true
	}
	if !ok {
		high = w.reap()
	}
	verbs := [2]verb{low, high}
	if w.chance(25, "from above") {
		verbs = [2]verb{high, low}
	}
	w.together(verbs, []uuid.UUID{p.low, p.low, p.above.id, w.m.row(p.low).Parent})
}

func (w *world) below(r *modelRow, body uuid.UUID) bool {
	for r != nil && r.Parent != uuid.Nil {
		if r.Parent == body {
			return true
		}
		r = w.m.row(r.Parent)
	}
	return false
}

// lower is something with an open row.
func (w *world) lower(id uuid.UUID) (verb, bool) {
	r := w.m.row(id)
	if r.body() && w.chance(15, "cancel") {
		return w.cancel(w.anyHost(), id, w.drawGrace()), true
	}
	if r.Late && w.chance(50, "expire") {
		return w.expire(w.anyHost(), id, w.drawGrace()), true
	}
	if !r.body() && w.chance(20, "answer") {
		return w.answer(w.anyHost(), w.callEnding(id, stack.Slice{})), true
	}
	if r.Status == stack.StatusPending || r.Status == stack.StatusResume {
		return w.claimRow(w.anyHost(), id), true
	}
	for _, k := range slices.Backward(w.works) {
		if k.id != id || !w.fresh(k) {
			continue
		}
		if w.chance(15, "begins anew") {
			return w.begins(k)
		}
		if w.chance(50, "waits") {
			return w.suspends(k)
		}
		return w.completes(k)
	}
	for _, c := range slices.Backward(w.calls) {
		if c.id == id && r.fenced(c.host, c.slice()) {
			if w.chance(15, "again") {
				return w.again(c.host, w.attempt(id, c.tries, c.slice())), true
			}
			return w.complete(w.leaving(c.host), w.callEnding(id, c.slice())), true
		}
	}
	switch {
	case r.Status == stack.StatusSleeping && r.Service == "sleep":
		return w.complete(w.anyHost(), w.callEnding(id, stack.Slice{})), true
	case r.Status == stack.StatusSleeping:
		return w.wakeDue(), true
	}
	return verb{}, false
}

// together does two verbs at once. A transaction of the test's own holds a lock that
// may stop the first of them somewhere in its middle, until the second has ended or
// waits as well. What comes of it must be what comes of one after the other.
func (w *world) together(verbs [2]verb, lockable []uuid.UUID) {
	tx, err := w.d.pool.Begin(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	locked := w.lock(tx, lockable)
	var got [2]answer
	var done [2]chan struct{}
	for i, v := range verbs {
		done[i] = make(chan struct{})
		go func() { defer close(done[i]); got[i] = v.do(context.Background()) }()
		w.settled(done[:i+1])
	}
	if err := tx.Rollback(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	<-done[0]
	<-done[1]
	w.tally.did(verbs[0], got[0])
	w.tally.did(verbs[1], got[1])
	w.tally.races++
	w.t.Logf("at once, held up by %s:\n  %s: %s\n  %s: %s", locked, verbs[0].name, got[0], verbs[1].name, got[1])
	w.explain(verbs, got, locked)
	w.check()
	for i, v := range verbs {
		if deadlocked(got[i].err) {
			w.tally.deadlocks++
			if !verbs[0].many && !verbs[1].many { // those take rows as they come, and are tried again
				w.t.Fatalf("a deadlock: somebody did not lock the parent first")
			}
		}
		if v.learn != nil && got[i].err == nil {
			v.learn(got[i])
		}
	}
}

// racer is a verb that races.
func (w *world) racer(label string) verb {
	draws := w.draws()
	for n := w.number(0, len(racers)-1, label); ; n++ {
		if v, ok := draws[racers[n%len(racers)]](); ok { // there is always something to claim or to reap
			return v
		}
	}
}

// lock takes a lock on what belongs to one of the rows: itself, its run, or the
// place where its reply is to be, which come late in a transaction.
func (w *world) lock(tx pgx.Tx, rows []uuid.UUID) (row uuid.UUID) {
	if len(rows) == 0 {
		rows = w.some(func(r *modelRow) bool { return !r.ended() })
	}
	if len(rows) == 0 {
		return uuid.Nil
	}
	row = rows[w.number(0, len(rows)-1, "locked")]
	sql := []string{
		`select from public.stack_runs where id = $1 for update`,
		`select from public.task_runs where id = (select child_task_run_id from public.stack_runs where id = $1) for update`,
		`insert into amber.replies (stack_run_id, kind, key_id, data) values ($1, 'reply', '', '') on conflict do nothing`,
	}[w.number(0, 2, "lock")]
	if _, err := tx.Exec(context.Background(), sql, row); err != nil {
		w.t.Fatal(err)
	}
	return row
}

// settled waits until each of the verbs has returned or waits for a lock.
func (w *world) settled(done []chan struct{}) {
	for {
		under := 0
		for _, d := range done {
			select {
			case <-d:
			default:
				under++
			}
		}
		if under == 0 {
			return
		}
		var waiting int
		err := w.d.pool.QueryRow(context.Background(), `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`).Scan(&waiting)
		if err != nil {
			w.t.Fatal(err)
		}
		if waiting >= under {
			w.tally.waited++
			return
		}
		time.Sleep(100 * time.Microsecond) // polls another process: Postgres
	}
}

// explain finds an order of the two verbs that has these answers and leaves what
// is in the tables, and has the model do that.
func (w *world) explain(verbs [2]verb, got [2]answer, locked uuid.UUID) {
	found, _ := w.read()
	var why []string
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		for _, skip := range w.skips(verbs, got, locked) {
			m := w.m.clone()
			m.raced, m.skip = true, skip
			var err error
			for _, i := range order {
				if deadlocked(got[i].err) { // nothing came of it
					continue
				}
				if err = verbs[i].apply(m, got[i]); err != nil {
					why = append(why, verbs[i].name+": "+err.Error())
					break
				}
			}
			if err != nil {
				continue
			}
			wrong := m.differs(found)
			if wrong == "" {
				m.raced, m.skip = false, nil
				*w.m = *m
				return
			}
			why = append(why, wrong)
		}
	}
	w.t.Fatalf("neither order of the two explains what came of them:\n%s", why[0]+"\n"+why[len(why)-1])
}

// skips are the sets of rows that a verb which goes over many rows may have missed:
// of those that are locked, or that the other verb changes, and the bodies above
// them, which it locks.
func (w *world) skips(verbs [2]verb, got [2]answer, locked uuid.UUID) []map[uuid.UUID]bool {
	sets := []map[uuid.UUID]bool{{}}
	for i, v := range verbs {
		if !v.many {
			continue
		}
		rows := map[uuid.UUID]bool{locked: true}
		other := w.m.clone()
		other.raced = true
		_ = verbs[1-i].apply(other, got[1-i]) // as far as it goes
		for _, r := range other.rows {
			if was := w.m.row(r.ID); was == nil || was.shape != r.shape {
				rows[r.ID] = true
			}
		}
		for _, row := range slices.Collect(maps.Keys(rows)) {
			if r := other.row(row); r != nil && r.Parent != uuid.Nil {
				rows[r.Parent] = true
			}
		}
		for _, row := range verbs[1-i].about {
			if r := other.row(row); r != nil && r.Parent != uuid.Nil {
				rows[r.Parent] = true
			}
		}
		for row := range rows {
			for _, set := range sets[:min(len(sets), 1<<8)] {
				more := maps.Clone(set)
				more[row] = true
				sets = append(sets, more)
			}
		}
	}
	return sets
}

func deadlocked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "40P01"
}
