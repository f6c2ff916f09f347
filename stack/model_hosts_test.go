package stack_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
)

func (w *world) register(engine int, name string, exclusive bool) verb {
	h := stack.Host{Name: name, Engines: w.shots.engines[engine]}
	if engine == 3 {
		h.Memory = 1
	}
	return verb{name: fmt.Sprintf("Register %s with engines %d, exclusive %v", name, engine, exclusive),
		do: func(ctx context.Context) (got answer) {
			got.host, got.err = w.d.store.Register(ctx, h, time.Hour, exclusive)
			return got
		},
		apply: func(m *model, got answer) error {
			m.register(got.host, exclusive)
			return got.err
		},
		learn: func(got answer) { w.hosts = append(w.hosts, got.host) }}
}

func (w *world) renew(h stack.Host) verb {
	return verb{name: "Renew " + h.Name,
		do:    func(ctx context.Context) answer { return answer{err: w.d.store.Renew(ctx, h, time.Hour)} },
		apply: func(m *model, got answer) error { return got.expect(m.live(h.ID), stack.ErrClaimLost, nil, nil) }}
}

// loses ends a lease as time would.
func (w *world) loses(h stack.Host) verb {
	return w.byHand("the lease of "+h.Name+" ends", `update amber.hosts set expires_at = now() - interval '1 second' where id = $1`, h.ID, func(m *model) {
		for i := range m.hosts {
			if m.hosts[i].id == h.ID {
				m.hosts[i].live = false
			}
		}
	})
}

// fallsDue lets a timer be due.
func (w *world) fallsDue(id uuid.UUID) verb {
	return w.byHand("timer "+id.String()+" is due", `update stack_runs set due_at = now() where id = $1 and status = 'sleeping'`, id,
		func(m *model) { m.row(id).due = true })
}

// edit ends a call as somebody with SQL does, who tells nobody.
func (w *world) edit(id uuid.UUID) verb {
	return w.byHand("SQL ends "+id.String(), `
		update stack_runs set status = 'completed', result = '"by hand"', claimed_by = null, stuck_reason = null, ended_at = now(), updated_at = now() - interval '1 minute'
		where id = $1 and status not in ('completed', 'failed', 'cancelled')`, id,
		func(m *model) {
			if r := m.row(id); !r.ended() {
				r.Status, r.Result, r.exact, r.Host, r.Stuck, r.aged = stack.StatusCompleted, `"by hand"`, `"by hand"`, uuid.Nil, false, true
			}
		})
}

func (w *world) byHand(name, sql string, id uuid.UUID, apply func(m *model)) verb {
	return verb{name: name, about: []uuid.UUID{id},
		do: func(ctx context.Context) answer {
			_, err := w.d.pool.Exec(ctx, sql, id)
			return answer{err: err}
		},
		apply: func(m *model, got answer) error { apply(m); return got.err }}
}

func (w *world) release(h stack.Host) verb {
	return verb{name: "Release " + h.Name, many: true,
		do: func(ctx context.Context) answer { return answer{err: w.d.store.Release(ctx, h)} },
		apply: func(m *model, got answer) error {
			m.freeHeld(h.ID, func(*modelRow) bool { return true })
			m.remove(func(o modelHost) bool { return o.id == h.ID })
			return got.err
		}}
}

func (w *world) reap() verb {
	return verb{name: "Reap", many: true,
		do: func(ctx context.Context) (got answer) {
			got.freed, got.suspects, got.err = w.d.store.Reap(ctx)
			return got
		},
		apply: func(m *model, got answer) error {
			freed, suspects := m.reap()
			return got.expect(true, nil, fmt.Sprint(got.freed, got.suspects), fmt.Sprint(freed, suspects))
		}}
}

func (w *world) yield(h stack.Host, id uuid.UUID, sl stack.Slice) verb {
	return verb{name: fmt.Sprintf("Yield on %s %s from %d", h.Name, id, sl.Sequence), about: []uuid.UUID{id},
		do: func(ctx context.Context) answer { return answer{err: w.d.store.Yield(ctx, h, id, sl)} },
		apply: func(m *model, got answer) error {
			m.freeHeld(h.ID, func(r *modelRow) bool { return r.ID == id && r.fenced(h, sl) })
			return got.err
		}}
}

func (w *world) abandon(h stack.Host, id uuid.UUID) verb {
	return verb{name: fmt.Sprintf("Abandon on %s %s", h.Name, id), about: []uuid.UUID{id}, many: true,
		do: func(ctx context.Context) answer { return answer{err: w.d.store.Abandon(ctx, h, id)} },
		apply: func(m *model, got answer) error {
			m.freeHeld(h.ID, func(r *modelRow) bool { return r.ID == id || r.Parent == id })
			return got.err
		}}
}

func (w *world) giveBack(h stack.Host, known []uuid.UUID) verb {
	return verb{name: fmt.Sprintf("GiveBack on %s all but %d", h.Name, len(known)), many: true,
		do: func(ctx context.Context) (got answer) {
			got.freed, got.err = w.d.store.GiveBack(ctx, h, known, 0)
			return got
		},
		apply: func(m *model, got answer) error {
			freed := m.freeHeld(h.ID, func(r *modelRow) bool { return !slices.Contains(known, r.ID) })
			return got.expect(true, nil, got.freed, freed)
		}}
}

func (w *world) park(h stack.Host, id uuid.UUID) verb {
	return verb{name: fmt.Sprintf("Park on %s %s", h.Name, id), about: []uuid.UUID{id},
		do: func(ctx context.Context) answer { return answer{err: w.d.store.Park(ctx, h, id, "it cannot go on")} },
		apply: func(m *model, got answer) error {
			r := m.row(id)
			ok := r.Status == stack.StatusProcessing && r.Host == h.ID
			if ok {
				r.free()
				r.Stuck, r.RunStuck = true, r.body() && (r.RunStuck || !r.runEnded())
			}
			return got.expect(ok, stack.ErrClaimLost, nil, nil)
		}}
}

// pass is about a key that is there: nothing is passed by.
func (w *world) pass(h stack.Host, id uuid.UUID) verb {
	return verb{name: fmt.Sprintf("Pass on %s %s", h.Name, id), about: []uuid.UUID{id},
		do: func(ctx context.Context) (got answer) {
			got.resume, got.err = w.d.store.Pass(ctx, h, id)
			return got
		},
		apply: func(m *model, got answer) error { return got.expect(true, nil, got.resume, false) }}
}

// timers lists what is due.
func (w *world) timers() verb {
	due := map[uuid.UUID]bool{}
	return verb{name: "Timers",
		do: func(ctx context.Context) (got answer) {
			timers, err := w.d.store.Timers(ctx, 0, 1000)
			for _, t := range timers {
				due[t.ID] = true
			}
			return answer{err: err}
		},
		apply: func(m *model, got answer) error {
			want := map[uuid.UUID]bool{}
			for _, r := range m.rows {
				if r.Status == stack.StatusSleeping && r.due {
					want[r.ID] = true
				}
			}
			if !maps.Equal(due, want) {
				return fmt.Errorf("%d are due, want %d", len(due), len(want))
			}
			return got.err
		}}
}
