package stack_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// verb is one transition, of the store and of the model.
type verb struct {
	name  string
	about []uuid.UUID // rows: whoever locks one of them may hold it up
	reads bool        // it commits nothing, but may touch the run that it reads
	many  bool        // it goes over rows as they come: what changes meanwhile it may miss
	do    func(ctx context.Context) answer
	apply func(m *model, got answer) error // has the model do it too; the error says what is wrong with the answer
	learn func(got answer)                 // what the hosts believe then
}

// answer is what a verb of the store returned.
type answer struct {
	err       error
	resume    bool              // Complete, Answer
	replies   []stack.Reply     // Suspend
	interrupt string            // Suspend
	early     stack.Interrupted // Cancel, Expire
	claims    []stack.Claim
	body      *stack.Body
	host      stack.Host
	freed     int
	suspects  bool
}

func (a answer) String() string {
	switch {
	case a.err != nil:
		return a.err.Error()
	case a.body != nil:
		return fmt.Sprintf("body %s at %d, %d replies", a.body.ID, a.body.Sequence, len(a.body.Replies))
	}
	s := fmt.Sprintf("resume %v, freed %d", a.resume, a.freed)
	if a.interrupt != "" {
		s += ", is to end for " + a.interrupt
	}
	if a.early != (stack.Interrupted{}) {
		s += fmt.Sprintf(", %+v", a.early)
	}
	for _, r := range a.replies {
		s += fmt.Sprintf(", reply of %s", r.ID)
	}
	for _, c := range a.claims {
		s += fmt.Sprintf(", claims %s", c.ID)
	}
	return s
}

// expect compares a verb's error and what else it says.
func (a answer) expect(ok bool, otherwise error, says, want any) error {
	if !ok {
		if !errors.Is(a.err, otherwise) {
			return fmt.Errorf("it should have lost its claim: %v", a)
		}
		return nil
	}
	if a.err != nil {
		return a.err
	}
	if fmt.Sprint(says) != fmt.Sprint(want) {
		return fmt.Errorf("it says %v, want %v", says, want)
	}
	return nil
}

// sorted are the ids and values of replies, in the order of the ids.
func sorted(replies []stack.Reply) []string {
	var out []string
	for _, r := range replies {
		_, _, _, exact := outcomeOf(stack.Ending{Reply: r.Reply})
		out = append(out, fmt.Sprintf("%s %d: %s", r.ID, r.CallID, exact))
	}
	slices.Sort(out)
	return out
}

// told are what the model has as replies.
func (m *model) told(ids []uuid.UUID) []string {
	var out []string
	for _, id := range ids {
		r := m.row(id)
		out = append(out, fmt.Sprintf("%s %d: %s", r.ID, r.CallID, r.exact))
	}
	slices.Sort(out)
	return out
}

func (w *world) start(h stack.Host, hold bool, timeout time.Duration) verb {
	return verb{name: fmt.Sprintf("Start on %s, hold %v", h.Name, hold),
		do: func(ctx context.Context) answer {
			b, err := w.d.store.Start(ctx, h, stack.StartParams{Task: "pair", Timeout: timeout}, hold)
			return answer{err: err, body: &b}
		},
		apply: func(m *model, got answer) error {
			if got.err == nil {
				m.start(h, *got.body, hold)
			}
			return got.err
		},
		learn: func(got answer) {
			if hold {
				w.works = append(w.works, work{host: h, id: got.body.ID, run: got.body.TaskRun, held: true})
			}
		}}
}

func (w *world) claim(h stack.Host, kind stack.ClaimKind, limit int) verb {
	return w.claiming(h, fmt.Sprintf("Claim on %s, kind %d, at most %d", h.Name, kind, limit), kind, limit, uuid.Nil)
}

func (w *world) claimRow(h stack.Host, id uuid.UUID) verb {
	v := w.claiming(h, fmt.Sprintf("ClaimRow on %s of %s", h.Name, id), stack.ClaimAll, 1, id)
	v.about = []uuid.UUID{id}
	return v
}

func (w *world) claiming(h stack.Host, name string, kind stack.ClaimKind, limit int, only uuid.UUID) verb {
	return verb{name: name,
		do: func(ctx context.Context) (got answer) {
			if only != uuid.Nil {
				got.claims, got.err = w.d.store.ClaimRow(ctx, h, only)
			} else {
				got.claims, got.err = w.d.store.Claim(ctx, h, kind, limit)
			}
			return got
		},
		apply: func(m *model, got answer) error {
			if got.err != nil {
				return got.err
			}
			var ids []uuid.UUID
			for _, c := range got.claims {
				ids = append(ids, c.ID)
			}
			return m.claim(h, kind, limit, only, ids)
		},
		learn: func(got answer) {
			for _, c := range got.claims {
				w.claims = append(w.claims, claimed{host: h, claim: c, at: w.m.row(c.ID).Sequence, first: w.m.row(c.ID).Begins})
			}
		}}
}

// open reads what was claimed, perhaps long ago.
func (w *world) open(c claimed) verb {
	return verb{name: fmt.Sprintf("Open on %s %s", c.host.Name, c.claim.ID), reads: true,
		do: func(ctx context.Context) answer {
			claim := c.claim
			err := w.d.store.Open(ctx, c.host, &claim)
			if err == nil {
				err = w.d.store.LoadSnapshot(ctx, claim.Body)
			}
			return answer{err: err, body: claim.Body, claims: []stack.Claim{claim}}
		},
		apply: func(m *model, got answer) error {
			r := m.row(c.claim.ID)
			if !r.body() {
				return got.expect(true, nil, got.claims[0].Call.ID, r.ID)
			}
			return m.opens(r, c.at, c.first, got)
		},
		learn: func(got answer) {
			if got.body == nil && got.err == nil {
				w.calls = append(w.calls, inHand{host: c.host, id: c.claim.ID, attempt: c.claim.Attempt(), tries: got.claims[0].Call.Tries})
			}
			w.noteBody(c.host, got)
		}}
}

// opens checks a body that was read as it was at a snapshot: what was claimed long
// ago may have gone on since.
func (m *model) opens(r *modelRow, at, first int64, got answer) error {
	if r.ended() {
		return got.expect(false, stack.ErrClaimLost, nil, nil)
	}
	if r.RunStatus == stack.StatusQueued {
		r.RunStatus = stack.StatusProcessing
	}
	if at == first {
		return got.expect(true, nil, got.told(), []string(nil))
	}
	if got.body != nil && !m.inPlace(got.body.Replies) {
		return fmt.Errorf("it is given replies in another order than before: %v", got)
	}
	there := slices.Contains(strings.Fields(r.Snapshots), fmt.Sprint(at))
	return got.expect(there, stack.ErrClaimLost, got.told(), m.told(m.unseen(r.ID)))
}

// told are the replies that came with a body.
func (a answer) told() []string {
	if a.body == nil {
		return nil
	}
	return sorted(a.body.Replies)
}

// noteBody notes a body that a host has read.
func (w *world) noteBody(h stack.Host, got answer) {
	if got.body == nil || got.err != nil {
		return
	}
	w.works = append(w.works, work{host: h, id: got.body.ID, run: got.body.TaskRun, depth: got.body.Depth, sequence: got.body.Sequence,
		held: true, replies: idsOf(got.body.Replies), interrupt: got.body.Interrupt, attempt: got.body.Attempt(), tries: got.body.Tries})
}

func idsOf(replies []stack.Reply) (ids []uuid.UUID) {
	for _, r := range replies {
		ids = append(ids, r.ID)
	}
	return ids
}

// hold reads a body that a commit is said to have given to a host.
func (w *world) hold(h stack.Host, id uuid.UUID) verb {
	return verb{name: fmt.Sprintf("Held on %s %s", h.Name, id), about: []uuid.UUID{id}, reads: true,
		do: func(ctx context.Context) answer {
			b, err := w.d.store.Held(ctx, h, id)
			if err == nil {
				err = w.d.store.LoadSnapshot(ctx, b)
			}
			return answer{err: err, body: b}
		},
		apply: func(m *model, got answer) error {
			if r := m.row(id); r.Status == stack.StatusProcessing && r.Host == h.ID {
				return m.opens(r, r.Sequence, r.Begins, got)
			}
			return got.expect(false, stack.ErrClaimLost, nil, nil)
		},
		learn: func(got answer) { w.noteBody(h, got) }}
}

func (w *world) suspend(h stack.Host, from work, sp stack.Suspension) verb {
	return verb{name: fmt.Sprintf("Suspend on %s %s from %d%s, %d calls, %d cancelled", h.Name, sp.ID, sp.Sequence, describe(sp.Slice), len(sp.Calls), len(sp.Cancelled)),
		about: append(aboutSlice(sp.Slice), sp.ID),
		do: func(ctx context.Context) (got answer) {
			after, err := w.d.store.Suspend(ctx, h, sp)
			got.replies, got.interrupt, got.err = after.Replies, after.Interrupt, err
			return got
		},
		apply: func(m *model, got answer) error {
			var more []uuid.UUID
			var interrupt string
			ok := m.try(func(m *model) (ok bool) { more, interrupt, ok = m.suspend(h, sp); return ok })
			return got.expect(ok, stack.ErrClaimLost, append(sorted(got.replies), got.interrupt), append(m.told(more), interrupt))
		},
		learn: func(got answer) {
			if got.err != nil {
				return
			}
			next := work{host: from.host, id: sp.ID, run: sp.TaskRun, depth: sp.Depth, sequence: sp.Sequence + 1, held: len(got.replies) > 0, replies: idsOf(got.replies),
				interrupt: cmp.Or(from.interrupt, got.interrupt), attempt: from.attempt, tries: from.tries}
			w.works = append(w.works, next)
			for _, c := range sp.Calls {
				switch {
				case c.Timer, c.Left, c.After > 0, !takes(h):
				case c.TaskRun != uuid.Nil:
					w.works = append(w.works, work{host: from.host, id: c.ID, run: c.TaskRun, depth: sp.Depth + 1, held: true})
				case got.interrupt == "": // else it has been called off
					w.calls = append(w.calls, inHand{host: from.host, id: c.ID})
				}
			}
		}}
}

func describe(sl stack.Slice) string {
	return fmt.Sprintf(" (held %v, %d settled, %d seen)", sl.Held, len(sl.Settled), len(sl.Delivered))
}

func aboutSlice(sl stack.Slice) (ids []uuid.UUID) {
	for _, e := range sl.Settled {
		ids = append(append(ids, e.ID), aboutSlice(e.Slice)...)
	}
	return ids
}

func (w *world) complete(h stack.Host, e stack.Ending) verb {
	return w.ending(h, e, "Complete", stack.ErrClaimLost, w.d.store.Complete, (*model).complete)
}

func (w *world) answer(h stack.Host, e stack.Ending) verb {
	return w.ending(h, e, "Answer", stack.ErrNotWaiting, w.d.store.Answer, (*model).answer)
}

func (w *world) ending(h stack.Host, e stack.Ending, name string, late error, do func(context.Context, stack.Host, stack.Ending) (bool, error),
	apply func(*model, stack.Host, stack.Ending) (bool, bool)) verb {
	_, _, _, exact := outcomeOf(e)
	v := verb{name: fmt.Sprintf("%s on %s %s from %d%s with %s, cancels %v", name, h.Name, e.ID, e.Sequence, describe(e.Slice), exact, e.CancelOpen),
		about: append(aboutSlice(e.Slice), e.ID),
		do: func(ctx context.Context) (got answer) {
			got.resume, got.err = do(ctx, h, e)
			return got
		},
		apply: func(m *model, got answer) error {
			var resume bool
			ok := m.try(func(m *model) (ok bool) { resume, ok = apply(m, h, e); return ok })
			return got.expect(ok, late, got.resume, resume)
		}}
	if e.Parent != uuid.Nil {
		v.about = append(v.about, e.Parent)
	}
	return v
}

// asInterrupted is how a body ends that is to, whatever it returns.
func asInterrupted(e stack.Ending, why string) stack.Ending {
	if e.Interrupt = why; why != "" {
		e.Reply = service.Reply{Err: interruption(why)}
	}
	return e
}

// reply is one that nobody has given before.
func (w *world) reply(failure bool, code string) service.Reply {
	w.named++
	if failure {
		return service.Reply{Err: service.Errorf(code, "error %d", w.named)}
	}
	return service.Reply{Value: json.RawMessage(fmt.Sprintf(`"reply %d"`, w.named))}
}
