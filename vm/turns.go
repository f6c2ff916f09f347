package vm

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/internal/fair"
)

// quantum is how long a slice computes before others get a turn.
const quantum = 10 * time.Millisecond

// turns shares a few processors and a bounded memory among slices. A slice that
// has not begun goes before those that have computed for a quantum, so that none
// waits for what others compute; those take turns. Slices begin as long as there
// is memory for them, and when those that have begun have grown beyond it, the
// oldest alone goes on until it has ended: so there is an end to waiting, and
// memory never exceeds the bound by more than the ones that run can grow by at once.
// Of those that wait to begin, groups take turns: a run that has thousands of slices
// holds up another's by one.
//
// It is safe for concurrent use.
type turns struct {
	most  uint64 // bytes of memory
	queue int    // that may wait to begin

	mu      sync.Mutex
	free    int                          // processors
	used    uint64                       // bytes of memory of those inside
	outside fair.Queue[uuid.UUID, *turn] // have not begun
	inside  []*turn                      // have begun and not ended, the oldest first
	parked  []*turn                      // of those inside, that wait for a processor, the longest waiting first
	passed  int                          // times that one from outside went before one that is parked
}

// turn is a slice as turns sees it.
type turn struct {
	group  uuid.UUID
	memory uint64        // bytes, what it has told the host included, as of the last time it said
	ready  chan struct{} // it has a processor
	began  time.Time     // when it got that
	runs   bool
}

// enter waits until a slice of a group may begin with so many bytes of memory. ErrBusy if
// too many wait already. The caller leaves with the turn that it gets.
func (s *turns) enter(ctx context.Context, group uuid.UUID, memory uint64) (*turn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	t := &turn{group: group, memory: memory, ready: make(chan struct{}, 1)}
	s.mu.Lock()
	if s.outside.Len() >= s.queue {
		s.mu.Unlock()
		return nil, ErrBusy
	}
	s.outside.Push(group, t)
	s.schedule()
	s.mu.Unlock()
	if err := s.wait(ctx, t); err != nil {
		s.leave(t)
		return nil, err
	}
	return t, nil
}

// leave ends a turn.
func (s *turns) leave(t *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.inside, t); i >= 0 {
		s.inside = slices.Delete(s.inside, i, i+1)
		s.used -= t.memory
	}
	if t.runs {
		t.runs = false
		s.free++
	}
	s.schedule()
}

// pause is called by a slice that runs, whose memory may have grown, now and
// then. It returns when the slice may go on, at once if nobody else wants to.
func (s *turns) pause(ctx context.Context, t *turn, memory uint64) error {
	s.mu.Lock()
	s.used += memory - t.memory
	t.memory = memory
	if s.mayRun(t) && (time.Since(t.began) < quantum || !s.wanted()) {
		s.mu.Unlock()
		return nil
	}
	t.runs = false
	s.free++
	s.parked = append(s.parked, t)
	s.schedule()
	s.mu.Unlock()
	return s.wait(ctx, t)
}

// wait waits for a processor.
func (s *turns) wait(ctx context.Context, t *turn) error {
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outside.Remove(t.group, t)
	if i := slices.Index(s.parked, t); i >= 0 {
		s.parked = slices.Delete(s.parked, i, i+1)
	}
	return context.Cause(ctx)
}

// mayRun: while there is too much memory, the oldest alone.
func (s *turns) mayRun(t *turn) bool { return s.used <= s.most || s.inside[0] == t }

// mayBegin reports whether the first one outside may.
func (s *turns) mayBegin() bool {
	return s.outside.Len() > 0 && (len(s.inside) == 0 || s.used+s.outside.First().memory <= s.most)
}

// next is the one that is parked longest and may run, or -1.
func (s *turns) next() int { return slices.IndexFunc(s.parked, s.mayRun) }

// wanted reports whether anybody could use a processor.
func (s *turns) wanted() bool { return s.mayBegin() || s.next() >= 0 }

// schedule gives away what processors are free. One in so many turns goes to who
// is parked although somebody waits to begin: else they might never end.
func (s *turns) schedule() {
	const patience = 4
	for s.free > 0 {
		parked := s.next()
		switch {
		case s.mayBegin() && (parked < 0 || s.passed < patience):
			if parked >= 0 {
				s.passed++
			}
			t := s.outside.Pop()
			s.inside = append(s.inside, t)
			s.used += t.memory
			s.give(t)
		case parked >= 0:
			t := s.parked[parked]
			s.parked = slices.Delete(s.parked, parked, parked+1)
			s.passed = 0
			s.give(t)
		default:
			return
		}
	}
}

func (s *turns) give(t *turn) {
	s.free--
	t.runs, t.began = true, time.Now()
	t.ready <- struct{}{}
}
