package vm

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
)

func newTurns(processors, queue int, most uint64) *turns {
	return &turns{free: processors, queue: queue, most: most}
}

// overdue makes a turn one that has computed for a quantum.
func overdue(t *turn) { t.began = t.began.Add(-time.Hour) }

// awaitQueued returns when n wait for a processor, outside or parked.
func awaitQueued(s *turns, n int) {
	for waiting := -1; waiting != n; runtime.Gosched() {
		s.mu.Lock()
		waiting = s.outside.Len() + len(s.parked)
		s.mu.Unlock()
	}
}

// TestFreshFirst: who has not begun goes before who has computed for a quantum,
// and those take turns.
func TestFreshFirst(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := newTurns(1, 10, 1000)
	a, err := s.enter(ctx, uuid.Nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.pause(ctx, a, 1); err != nil || !a.runs { // nobody else wants to
		t.Fatal("it does not go on alone", err)
	}
	var order []string
	var mu sync.Mutex
	note := func(what string) { mu.Lock(); order = append(order, what); mu.Unlock() }
	var all sync.WaitGroup
	all.Go(func() {
		b, err := s.enter(ctx, uuid.Nil, 1)
		if err != nil {
			t.Error(err)
			return
		}
		note("b begins")
		overdue(b)
		all.Go(func() {
			c, err := s.enter(ctx, uuid.Nil, 1)
			if err != nil {
				t.Error(err)
				return
			}
			note("c begins")
			s.leave(c)
		})
		awaitQueued(s, 2) // a is parked, c is outside
		if err := s.pause(ctx, b, 1); err != nil {
			t.Error(err)
		}
		note("b goes on")
		s.leave(b)
	})
	awaitQueued(s, 1)
	if err := s.pause(ctx, a, 1); err != nil || !a.runs { // not yet a quantum
		t.Fatal(err)
	}
	overdue(a)
	if err := s.pause(ctx, a, 1); err != nil {
		t.Fatal(err)
	}
	note("a goes on")
	s.leave(a)
	all.Wait()
	want := []string{"b begins", "c begins", "a goes on", "b goes on"}
	for i := range want {
		if i >= len(order) || order[i] != want[i] {
			t.Fatalf("%q, want %q", order, want)
		}
	}
	if s.free != 1 || s.used != 0 || len(s.inside)+s.outside.Len()+len(s.parked) != 0 {
		t.Errorf("left %+v", s)
	}
}

// TestMemoryIsShared: slices begin while there is memory; when they have grown
// beyond it, the oldest alone goes on, until all have ended.
func TestMemoryIsShared(t *testing.T) {
	t.Parallel()
	const processors, most, each = 4, 100, 60
	s := newTurns(processors, 1000, most)
	var sum, peak atomic.Int64
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			turn, err := s.enter(t.Context(), uuid.Nil, 10)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.leave(turn)
			sum.Add(10)
			defer func() { sum.Add(-int64(turn.memory)) }()
			for memory := uint64(20); memory <= each; memory += 10 {
				overdue(turn)
				sum.Add(10)
				for now := sum.Load(); ; {
					if old := peak.Load(); now <= old || peak.CompareAndSwap(old, now) {
						break
					}
				}
				if err := s.pause(t.Context(), turn, memory); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	// Each that runs may be one step of 10 beyond what it has told.
	if peak.Load() > most+each+processors*20 {
		t.Errorf("%d bytes together, at most %d", peak.Load(), most)
	}
	if s.free != processors || s.used != 0 || len(s.inside)+s.outside.Len()+len(s.parked) != 0 {
		t.Errorf("left %+v", s)
	}
}

// TestGivingUpTurns: who stops waiting, before it begins or parked, takes no
// processor and no memory along.
func TestGivingUpTurns(t *testing.T) {
	t.Parallel()
	s := newTurns(1, 1, 100)
	a, err := s.enter(t.Context(), uuid.Nil, 60)
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error)
	go func() { _, err := s.enter(ctx, uuid.Nil, 60); failed <- err }()
	awaitQueued(s, 1)
	if _, err := s.enter(t.Context(), uuid.Nil, 1); !errors.Is(err, ErrBusy) {
		t.Errorf("beyond the queue: %v", err)
	}
	cancel(why)
	if err := <-failed; !errors.Is(err, why) {
		t.Errorf("outside: %v", err)
	}
	b := make(chan *turn)
	go func() { turn, _ := s.enter(t.Context(), uuid.Nil, 10); b <- turn }()
	awaitQueued(s, 1)
	overdue(a)
	if err := s.pause(ctx, a, 60); !errors.Is(err, why) {
		t.Errorf("parked: %v", err)
	}
	s.leave(a)
	s.leave(<-b)
	if s.free != 1 || s.used != 0 || len(s.inside)+s.outside.Len()+len(s.parked) != 0 {
		t.Errorf("left %+v", s)
	}
}
