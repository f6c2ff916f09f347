package stack

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// Suspensions that come while others are being committed are committed together:
// bodies have nothing to do with each other, but the beginning of a transaction and
// of each of its statements, and its way to the disk, cost what they cost. None
// waits for another that has not come yet: one alone goes out at once.

const (
	mostTogether  = 16      // suspensions in one transaction
	bytesTogether = 4 << 20 // of their snapshots, replies and arguments; more goes alone
	groupsAtOnce  = 2       // transactions under way: one is computed while another waits for the disk
)

// together are the suspensions of a process that are to be committed.
type together struct {
	mu      sync.Mutex
	waiting []*suspending
	groups  int // under way
}

// suspending is a suspension that somebody waits for.
type suspending struct {
	host  Host
	sp    Suspension
	leads chan bool // true: commit the next group; false: err is what came of yours
	codes map[string]string
	err   error
}

// errUnsent says that nothing was sent: one of a group cannot be written.
var errUnsent = errors.New("nothing was sent")

// errAlone says that a group was not committed because of one of it.
var errAlone = errors.New("stack: not together")

// suspend commits a suspension, perhaps with others.
func (t *together) suspend(ctx context.Context, s *Store, host Host, sp Suspension) (codes map[string]string, err error) {
	own := &suspending{host: host, sp: sp, leads: make(chan bool, 1)}
	if !t.enter(own) && !<-own.leads { // whoever leads is bounded in time
		if errors.Is(own.err, errAlone) {
			return s.suspendAtOnce(ctx, host, []Suspension{sp})
		}
		return own.codes, own.err
	}
	if err := ctx.Err(); err != nil { // it has waited for all the time that it had
		t.leave()
		return nil, err
	}
	group := t.take(own)
	land, cancel := mustLand(ctx) // the others have only come
	defer cancel()
	codes, err = s.suspendAtOnce(land, host, suspensions(group))
	t.leave()
	if len(group) == 1 {
		return codes, err
	}
	if undone(err) {
		err = errAlone
	}
	for _, g := range group {
		if g != own {
			g.codes, g.err = codes, err
			g.leads <- false
		}
	}
	if errors.Is(err, errAlone) {
		return s.suspendAtOnce(ctx, host, []Suspension{sp})
	}
	return codes, err
}

// enter reports whether a suspension leads a group: else it waits.
func (t *together) enter(own *suspending) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.groups == groupsAtOnce {
		t.waiting = append(t.waiting, own)
		return false
	}
	t.groups++
	return true
}

// take takes a leader and those that wait and go with it, callers before what they
// called.
func (t *together) take(own *suspending) []*suspending {
	t.mu.Lock()
	defer t.mu.Unlock()
	group, bytes := []*suspending{own}, own.sp.bytes()
	t.waiting = slices.DeleteFunc(t.waiting, func(w *suspending) bool {
		size := w.sp.bytes()
		if len(group) == mostTogether || bytes+size > bytesTogether || w.host.ID != own.host.ID || w.host.Leaving != own.host.Leaving {
			return false
		}
		group, bytes = append(group, w), bytes+size
		return true
	})
	slices.SortStableFunc(group, func(a, b *suspending) int { return a.sp.Depth - b.sp.Depth })
	return group
}

// leave has the one that has waited longest lead the next group.
func (t *together) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.groups--
		return
	}
	t.waiting[0].leads <- true
	t.waiting = t.waiting[1:]
}

// bytes is about how much a suspension sends.
func (sp Suspension) bytes() int {
	n := sp.Snapshot.Stored()
	for _, e := range sp.Settled {
		n += int(e.size())
	}
	for _, c := range sp.Calls {
		for _, arg := range c.Call.Args() {
			n += 2 * len(arg) // in two columns
		}
	}
	return n
}

func suspensions(group []*suspending) []Suspension {
	all := make([]Suspension, len(group))
	for i, g := range group {
		all[i] = g.sp
	}
	return all
}

// undone reports whether a transaction has been undone for what it was: those of a
// group may be committed one by one. Of a connection that was lost it is not known
// whether it has been committed.
func undone(err error) bool {
	var pg *pgconn.PgError
	return errors.Is(err, ErrClaimLost) || errors.Is(err, errMore) || errors.Is(err, errUnsent) || refused(err) || pgconn.SafeToRetry(err) ||
		errors.As(err, &pg) && pg.SeverityUnlocalized == "ERROR" // and not one that ends the session
}
