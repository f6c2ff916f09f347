package stack

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/amberhost/amber/vm"
)

// room bounds what a process keeps in memory for bodies besides their VMs. What
// there is no room for is left in the tables, where it waits for this host or
// any other. Each bound can be passed by what was under way when it was reached.
type room struct {
	replies   budget // that no committed slice has seen, and inputs: no body and no call is begun beyond it
	outcomes  budget // of slices, until they are committed: beyond it no slice begins
	snapshots budget // of bodies that wait for calls of this process: the others are read again
	resumed   budget // of snapshots that were read and wait for their turn: no other is read beyond it
	arguments budget // of calls that wait to be made or are being made: the others are left to any host
}

func newRoom(bytes int64) *room {
	return &room{replies: budget{most: bytes * 3 / 8}, outcomes: budget{most: bytes / 4},
		snapshots: budget{most: bytes / 8}, resumed: budget{most: bytes / 8}, arguments: budget{most: bytes / 8}}
}

// budget is a number of bytes that are handed out first come, first served. It
// is safe for concurrent use.
type budget struct {
	most int64

	mu      sync.Mutex
	used    int64
	waiting []*applicant
}

type applicant struct {
	bytes    int64
	admitted chan struct{}
}

// fits: what is larger than all of it fits when nothing else is there.
func (b *budget) fits(n int64) bool { return b.used == 0 || b.used < b.most && b.used+n <= b.most }

// acquire waits until n bytes are free and takes them. The caller gives them back with add.
func (b *budget) acquire(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.waiting) == 0 && b.fits(n) {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	a := &applicant{n, make(chan struct{})}
	b.waiting = append(b.waiting, a)
	b.mu.Unlock()
	select {
	case <-a.admitted:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting, a); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	} else {
		b.used -= n
	}
	b.admit()
	return context.Cause(ctx)
}

// try takes n bytes if they are free now.
func (b *budget) try(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > 0 || !b.fits(n) {
		return false
	}
	b.used += n
	return true
}

// has reports whether n bytes are free now.
func (b *budget) has(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting) == 0 && b.fits(n)
}

// add counts n bytes more, or less: they are there already, or no longer.
func (b *budget) add(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
	b.admit()
}

func (b *budget) admit() {
	for len(b.waiting) > 0 && b.fits(b.waiting[0].bytes) {
		b.used += b.waiting[0].bytes
		close(b.waiting[0].admitted)
		b.waiting = slices.Delete(b.waiting, 0, 1)
	}
}

// taken is how many bytes are counted now.
func (b *budget) taken() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// rowBytes is what a call or a reply takes besides its JSON.
const rowBytes = 512

// size is what an ending keeps in memory.
func (e Ending) size() int64 {
	n := int64(rowBytes + len(e.Reply.Value))
	if e.Reply.Err != nil {
		n += int64(len(e.Reply.Err.Message) + len(e.Reply.Err.Stack))
	}
	for _, s := range e.Settled {
		n += s.size()
	}
	for _, l := range e.Logs {
		n += int64(len(l.Message))
	}
	for _, c := range e.Unsent {
		n += c.size()
	}
	return n
}

// size is what a body keeps in memory besides its snapshot: nothing while it waits.
func (b *Body) size() int64 {
	n := int64(len(b.Code) + len(b.Input))
	for _, r := range b.Replies {
		n += r.size()
	}
	return n
}

func (r Reply) size() int64 { return Ending{Reply: r.Reply}.size() }

// outcomeSize is what a slice leaves in memory until it is committed.
func outcomeSize(out *vm.Outcome) int64 {
	n := int64(rowBytes + len(out.Result))
	for _, c := range out.Calls {
		n += Child{Call: c.Call}.size()
	}
	for _, l := range out.Logs {
		n += int64(len(l.Message))
	}
	if out.Snapshot != nil {
		n += int64(out.Snapshot.Stored())
	}
	return n
}

// size is what a call keeps in memory until it has been made.
func (c Child) size() int64 {
	n := int64(rowBytes + len(c.Input))
	for _, s := range c.Call.Steps {
		n += int64(len(s.Property))
		for _, a := range s.Args {
			n += int64(len(a))
		}
	}
	return n
}

// slots is a number of things that a process does at once. It is safe for
// concurrent use.
type slots struct {
	most int
	used atomic.Int64
	left atomic.Bool // something may wait in the tables for one to be free
}

// take takes a slot, over the number if need be.
func (s *slots) take() { s.used.Add(1) }

// try takes a slot unless as many are taken, and notes that something was left.
func (s *slots) try(most int) bool {
	if int(s.used.Add(1)) <= most {
		return true
	}
	s.used.Add(-1)
	s.left.Store(true)
	return false
}

// give frees a slot. look says that it is time to look for what was left.
func (s *slots) give() (look bool) {
	return int(s.used.Add(-1)) <= s.most*3/4 && s.left.CompareAndSwap(true, false)
}

func (s *slots) free() int { return max(0, s.most-int(s.used.Load())) }
