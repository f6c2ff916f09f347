package stack

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

// Config configures a Processor. Store, Engine and HostName are required.
type Config struct {
	Store    *Store
	Engine   *vm.Engine
	Services map[string]service.Service // what tools.<name> reaches, besides tasks and sleep
	HostName string                     // shown to operators
	// Exclusive vouches that no other host of this name runs: what an earlier
	// one left behind is taken over at once.
	Exclusive bool

	// Poll makes the host learn of others' work by the sweep alone: connections
	// of a transaction pooler cannot listen.
	Poll bool

	// Strict commits what a call gave before its caller sees it, in a transaction of its
	// own, and has the caller read it. Otherwise both are in the caller's next commit: if
	// the host dies before that, the call is made again under the same idempotency key.
	Strict bool

	MaxBodies int           // bodies that this host works for at once; 0 means 1,000
	MaxQueued int           // runs that may wait for a host; another one is refused; 0 means 10,000
	MaxCalls  int           // service calls in flight at once; 0 means 256
	MaxDepth  int           // tasks that are nested in each other; a deeper one is refused; 0 means 1,000
	MaxNested int           // tasks that a run and those nested in it may start, about; 0 means 100,000
	Memory    int64         // bytes that replies, arguments and snapshots at hand may have; 0 means 256 MiB
	Lease     time.Duration // how long a silent host keeps what it holds; 0 means 15 s
	Sweep     time.Duration // how often the tables are searched for work that no hint told of; 0 means 1 s
	Tidy      time.Duration // how often this host looks for what nobody needs any more; 0 means 1 h
	Grace     time.Duration // how long a run that was cancelled, or has had its time, may take to tidy up; 0 means 10 s
	Retention time.Duration // how long runs are kept when they have ended, of tasks that do not say; 0 means 7 days, less than 0 for ever
	Remove    time.Duration // how often this host looks for runs whose time is over; 0 means 1 min
	Drain     time.Duration // how long Run waits for slices and calls when its context ends; 0 means 5 s, less than 0 not at all

	Observe func(Event)  // hears what happens here, from many goroutines; nil: nobody. It must not block.
	Log     *slog.Logger // nil discards
}

// Processor runs bodies and calls: see processor.go. It is made by
// [NewProcessor] and works while Run does; its methods are safe for concurrent use.
type Processor struct {
	cfg  Config
	host atomic.Pointer[Host]

	work     sync.WaitGroup             // goroutines that work for bodies and calls
	jobs     chan func(context.Context) // work that others hand to Run
	wake     chan struct{}              // hint: claim
	room     *room                      // memory
	nested   nested                     // tasks, counted
	bodies   slots                      // for bodies that run
	starts   slots                      // for those of them that are started here: what waits leaves them alone
	queue    slots                      // for service calls at hand, those in flight included
	suspects slots                      // for bodies during which hosts were lost
	atHand   slots                      // for what is claimed and waits for a place among waking
	calls    places                     // for service calls in flight
	waking   places                     // for answering timers, and for bodies on the way from the tables to their next commit
	reading  chan struct{}              // slots for reading bodies and calls from the tables
	queued   atomic.Int64               // runs that wait for a host, about
	started  atomic.Int64               // when a run was started here, in Unix nanoseconds

	// Of the sweep alone.
	counted   time.Time // when queued was
	scheduled time.Time // when all that is due was read

	drains  atomic.Bool
	ready   chan struct{} // closed when this host is registered
	stopped chan struct{} // closed when Run takes no more jobs

	mu       sync.Mutex
	frames   map[uuid.UUID]*frame
	codes    codes
	inFlight map[uuid.UUID]string // calls of services, for people
	waiters  map[uuid.UUID]map[chan struct{}]struct{}

	unwatched         chan struct{}         // hint: nobody waits any more
	lookingOut, fresh bool                  // for waiters, see lookOut; some of them are new
	alarms            map[uuid.UUID]*alarms // by the body that waits
	deadlines         map[uuid.UUID]*time.Timer
	asked             map[uuid.UUID]*asked // calls that are with their services
}

const (
	callsQueued = 4         // times MaxCalls that service calls may be at hand
	readers     = 8         // that read bodies and calls from the tables at once
	usualReply  = 256 << 10 // bytes that are kept free for a reply whose service does not say how large one may be, at most
)

// NewProcessor returns a Processor; nothing happens before Run.
func NewProcessor(cfg Config) *Processor {
	cfg.MaxBodies = orDefault(cfg.MaxBodies, 1000)
	cfg.MaxQueued = orDefault(cfg.MaxQueued, 10_000)
	cfg.MaxCalls = orDefault(cfg.MaxCalls, 256)
	cfg.MaxDepth = orDefault(cfg.MaxDepth, 1000)
	cfg.MaxNested = orDefault(cfg.MaxNested, 100_000)
	cfg.Memory = orDefault(cfg.Memory, 256<<20)
	cfg.Lease = orDefault(cfg.Lease, 15*time.Second)
	cfg.Sweep = orDefault(cfg.Sweep, time.Second)
	cfg.Tidy = orDefault(cfg.Tidy, time.Hour)
	cfg.Retention = max(0, orDefault(cfg.Retention, 7*24*time.Hour))
	cfg.Remove = orDefault(cfg.Remove, time.Minute)
	cfg.Drain = orDefault(cfg.Drain, 5*time.Second)
	cfg.Grace = orDefault(cfg.Grace, 10*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Processor{
		cfg: cfg, jobs: make(chan func(context.Context)), wake: make(chan struct{}, 1),
		room: newRoom(cfg.Memory), nested: nested{most: cfg.MaxNested, left: map[uuid.UUID]int{}}, bodies: slots{most: cfg.MaxBodies - cfg.MaxBodies/4}, starts: slots{most: cfg.MaxBodies / 4}, queue: slots{most: cfg.MaxCalls}, suspects: slots{most: 1}, atHand: slots{most: mostAtHand},
		calls: places{most: cfg.MaxCalls}, waking: places{most: mostWakers()}, reading: make(chan struct{}, readers), ready: make(chan struct{}), stopped: make(chan struct{}),
		frames: map[uuid.UUID]*frame{}, inFlight: map[uuid.UUID]string{}, waiters: map[uuid.UUID]map[chan struct{}]struct{}{}, unwatched: make(chan struct{}, 1), alarms: map[uuid.UUID]*alarms{}, deadlines: map[uuid.UUID]*time.Timer{}, asked: map[uuid.UUID]*asked{},
	}
	p.waking.fewer = p.wakers
	return p
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
