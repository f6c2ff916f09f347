package stack_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/vm"
)

// side is one of two databases on which the same is timed in turn, so that what
// else the machine does slows both.
type side struct {
	*db
	engine *vm.Engine
	host   stack.Host
	took   map[string][]time.Duration // since the last round

	run    uuid.UUID // that is to be claimed
	claims []stack.Claim
	race   race
}

func (d *db) side() *side {
	d.t.Helper()
	e, err := engine()
	if err != nil {
		d.t.Fatal(err)
	}
	host, err := d.store.Register(d.t.Context(), stack.Host{Name: "timed", Engines: e.Identities()}, 24*time.Hour, false)
	if err != nil {
		d.t.Fatal(err)
	}
	return &side{db: d, engine: e, host: host, took: map[string][]time.Duration{}}
}

// steps are what is timed, in an order in which each finds what it needs. A step
// without a name prepares the next.
var steps = []struct {
	name string
	do   func(s *side) (right bool, err error)
}{
	{"", func(s *side) (bool, error) { s.run = s.enqueue("pair", "null"); return true, nil }},
	{"Claim, with work", func(s *side) (bool, error) {
		var err error
		s.claims, err = s.store.Claim(s.t.Context(), s.host, stack.ClaimAll, 100)
		return len(s.claims) == 1, err
	}},
	{"Complete, of a run", func(s *side) (bool, error) {
		_, err := s.store.Complete(s.t.Context(), s.host, stack.Ending{ID: s.claims[0].ID, TaskRun: s.run, Slice: stack.Slice{Held: true}})
		return true, err
	}},
	{"Claim, without", func(s *side) (bool, error) {
		c, err := s.store.Claim(s.t.Context(), s.host, stack.ClaimAll, 100)
		return len(c) == 0, err
	}},
	{"", func(s *side) (bool, error) { s.race = newRace(s.db, s.engine, s.host); return true, nil }},
	{"Suspend", func(s *side) (bool, error) {
		after, err := s.store.Suspend(s.t.Context(), s.host, s.race.second)
		return len(after.Replies) == 0, err
	}},
	{"Complete, of a call", func(s *side) (bool, error) { return s.store.Complete(s.t.Context(), s.host, s.race.b) }},
	{"Held, which reads the replies", func(s *side) (bool, error) {
		b, err := s.store.Held(s.t.Context(), s.host, s.race.second.ID)
		return err == nil && len(b.Replies) == 1, err
	}},
	{"", func(s *side) (bool, error) {
		_, err := s.store.Complete(s.t.Context(), s.host, stack.Ending{ID: s.race.second.ID, TaskRun: s.race.second.TaskRun, Slice: stack.Slice{Sequence: 2, Held: true}})
		return true, err
	}},
	{"Reap", func(s *side) (bool, error) { n, _, err := s.store.Reap(s.t.Context()); return n == 0, err }},
	{"Adopt", func(s *side) (bool, error) { n, err := s.store.Adopt(s.t.Context(), 1000); return n == 0, err }},
	{"UnparkOpenable", func(s *side) (bool, error) { n, err := s.store.UnparkOpenable(s.t.Context(), 1000); return n == 0, err }},
	{"Timers", func(s *side) (bool, error) {
		l, err := s.store.Timers(s.t.Context(), 2*time.Second, 1000)
		return len(l) == 0, err
	}},
	{"Renew", func(s *side) (bool, error) { return true, s.store.Renew(s.t.Context(), s.host, 24*time.Hour) }},
	{"GiveBack", func(s *side) (bool, error) {
		n, err := s.store.GiveBack(s.t.Context(), s.host, []uuid.UUID{}, time.Second)
		return n == 0, err
	}},
	{"ParkUnopenable", func(s *side) (bool, error) { n, err := s.store.ParkUnopenable(s.t.Context()); return n == 0, err }},
	{"ParkEngineless", func(s *side) (bool, error) { n, err := s.store.ParkEngineless(s.t.Context()); return n == 0, err }},
	{"ParkTooLarge", func(s *side) (bool, error) { n, err := s.store.ParkTooLarge(s.t.Context()); return n == 0, err }},
	{"RemoveImages", func(s *side) (bool, error) { n, err := s.store.RemoveImages(s.t.Context()); return n == 0, err }},
}

// compareTimes times each step beside empty and beside full tables. Its figures
// are the least of many rounds, of more while the machine is busy: what is slow in
// all of them is slow by itself.
func compareTimes(t *testing.T, empty, full *db) {
	t.Helper()
	const atLeast, atMost, times = 10, 100, 100
	sides := []*side{empty.side(), full.side()}
	least := map[string][2][2]time.Duration{} // p50 and p99 of empty and full
	more := func(step string, k int) float64 {
		return 100 * (float64(least[step][1][k])/float64(least[step][0][k]) - 1)
	}
	slower := func(step string) bool { return strings.HasPrefix(step, "Claim") && more(step, 1) > 20 }
	for round := 0; round < atLeast || round < atMost && (slower(steps[1].name) || slower(steps[3].name)); round++ {
		for i := range times {
			for _, step := range steps {
				for k := range sides {
					s := sides[(i+k)%2] // each of them first in turn
					begun := time.Now()
					right, err := step.do(s)
					s.took[step.name] = append(s.took[step.name], time.Since(begun))
					if err != nil || !right {
						t.Fatalf("%s did not find what there is: %v", step.name, err)
					}
				}
			}
		}
		for _, step := range steps {
			all, known := least[step.name]
			for i, s := range sides {
				took := s.took[step.name]
				slices.Sort(took)
				for k, now := range []time.Duration{took[len(took)/2], took[len(took)*99/100-1]} {
					if !known || now < all[i][k] {
						all[i][k] = now
					}
				}
			}
			least[step.name] = all
		}
		clear(sides[0].took)
		clear(sides[1].took)
	}
	for _, step := range steps {
		if step.name == "" {
			continue
		}
		e, f := least[step.name][0], least[step.name][1]
		t.Logf("%-30s p50 %7s %7s %+4.0f %%, p99 %7s %7s %+4.0f %%", step.name, e[0].Round(time.Microsecond), f[0].Round(time.Microsecond), more(step.name, 0),
			e[1].Round(time.Microsecond), f[1].Round(time.Microsecond), more(step.name, 1))
		if slower(step.name) {
			t.Errorf("the p99 of %q is %.0f %% more beside what is parked", step.name, more(step.name, 1))
		}
	}
	t.Log(full.sizes())
}

// sizes are what the tables of d take.
func (d *db) sizes() (out string) {
	d.t.Helper()
	if err := d.pool.QueryRow(d.t.Context(), `
		select string_agg(format('%s: %s rows, %s, indexes %s', oid::regclass, reltuples, pg_size_pretty(pg_table_size(oid)), pg_size_pretty(pg_indexes_size(oid))), E'\n')
		from pg_class where oid = any('{public.task_runs, public.stack_runs, amber.snapshots, amber.replies}'::regclass[])`).Scan(&out); err != nil {
		d.t.Fatal(err)
	}
	return out
}
