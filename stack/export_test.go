package stack

import (
	"context"
	"runtime"
)

// Taken are the budgets and slots of which something is taken, and how much.
func (p *Processor) Taken() map[string]int64 {
	taken := map[string]int64{
		"bytes of replies": p.room.replies.taken(), "bytes of outcomes": p.room.outcomes.taken(),
		"bytes of snapshots": p.room.snapshots.taken(), "bytes of resumed": p.room.resumed.taken(), "bytes of arguments": p.room.arguments.taken(),
		"bodies": p.bodies.used.Load(), "queue": p.queue.used.Load(), "suspects": p.suspects.used.Load(), "at hand": p.atHand.used.Load(),
		"calls": int64(p.calls.busy()), "reading": int64(len(p.reading)),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	taken["frames"], taken["in flight"] = int64(len(p.frames)), int64(len(p.inFlight))
	for name, n := range taken {
		if n == 0 {
			delete(taken, name)
		}
	}
	return taken
}

// LoadSnapshot reads the snapshot of a body that was opened, as its slice does.
func (s *Store) LoadSnapshot(ctx context.Context, b *Body) error {
	if b == nil || b.begins() {
		return nil
	}
	return s.loadSnapshot(ctx, b)
}

// Wakers is how many bodies are on the way from the tables at once, at most.
func Wakers() int { return mostWakers() }

// WithAttempt has a slice name the attempt of its row.
func (sl Slice) WithAttempt(n int) Slice {
	sl.attempt = &n
	return sl
}

// Attempt is that of the slice's row; ok is false if it is not known.
func (sl Slice) Attempt() (n int, ok bool) {
	if sl.attempt == nil {
		return 0, false
	}
	return *sl.attempt, true
}

// Attempt is how often the row was claimed or retried when it was claimed.
func (c Claim) Attempt() int { return c.row.Attempt }

// Attempt is how often the body was claimed or retried when it was read.
func (b *Body) Attempt() int { return b.attempt }

// SliceOf is the slice that a host runs of a body which it holds.
func SliceOf(b *Body) Slice { return (&frame{body: b}).slice(nil) }

// HoldSuspensions has suspensions wait until they are let go, in one group; waiting
// is how many do.
func (s *Store) HoldSuspensions() (waiting func() int, letGo func()) {
	t := &s.together
	t.mu.Lock()
	for t.groups > 0 { // what is under way leaves first
		t.mu.Unlock()
		runtime.Gosched()
		t.mu.Lock()
	}
	t.groups = groupsAtOnce
	t.mu.Unlock()
	return func() int {
			t.mu.Lock()
			defer t.mu.Unlock()
			return len(t.waiting)
		}, func() {
			t.mu.Lock()
			t.groups = 1
			t.mu.Unlock()
			t.leave()
		}
}
