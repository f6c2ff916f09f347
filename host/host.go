package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/supabase/local"
	"github.com/amberhost/amber/telemetry"
	"github.com/amberhost/amber/vm"
)

// stopTimeout bounds each of the two parts of stopping: the work, the database.
const stopTimeout = 10 * time.Second

// Host is one process of amber.
type Host struct {
	config Config
}

// New returns a host; it does nothing before Run.
func New(c Config) *Host { return &Host{config: c.withDefaults()} }

// Run starts everything, serves until ctx is done and [Config.DrainNotice] is
// over, and stops everything again in order: new requests are turned away, those
// there are end (requests that wait for a run are answered early), then the
// processor, the port, the database. It returns nil if all went as it was told to.
func (h *Host) Run(ctx context.Context) error {
	err := h.run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // told to stop while it started
	}
	return err
}

func (h *Host) run(ctx context.Context) (err error) {
	if err := h.config.Check(); err != nil {
		return err
	}
	listener, err := listen(ctx, h.config)
	if err != nil {
		return err
	}
	site := newSite(ctx, h.config, listener)
	defer site.close()
	b, err := open(ctx, h.config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	metrics, err := h.serveMetrics(ctx, b)
	if err != nil {
		return err
	}
	defer metrics.close()
	watcher, err := h.publish(ctx, b)
	if err != nil {
		return err
	}
	return h.serve(ctx, site, b, watcher)
}

// building is what a host is made of, joined and not yet running.
type building struct {
	database  *database
	engine    *vm.Engine
	store     *stack.Store
	processor *stack.Processor
	functions []functions.Function
	tasks     []string // that were published at the start, from the tasks directory
	draining  atomic.Bool

	metrics    *telemetry.Metrics
	metricsURL string            // of the address for metrics alone
	tracer     *telemetry.Tracer // nil writes nothing
	flush      time.Duration     // that it has to send the last spans
}

// open makes the building. The database and the engine take about as long to
// start, so they do it side by side.
func open(ctx context.Context, c Config) (*building, error) {
	ring, err := openRing(c)
	if err != nil {
		return nil, err
	}
	b := new(building)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		b.database, err = openDatabase(gctx, c)
		return err
	})
	g.Go(func() (err error) {
		b.engine, err = vm.New(ctx, vm.Options{
			CacheDir: c.CacheDir,
			Keys:     ring,
			Limits:   c.TaskLimits,
			Memory:   uint64(c.Memory),
			Queue:    c.MaxBodies, // no more can want to run
			// Asked when a body is resumed, long after b.store is set.
			LoadImage: func(ctx context.Context, d vm.Digest) ([]byte, error) { return b.store.Image(ctx, d[:]) },
			Log:       c.Log,
		})
		if errors.Is(err, vm.ErrCache) {
			err = fmt.Errorf("%w: the directory is the setting cache (--cache or AMBER_CACHE)", err)
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, b.close(ctx))
	}
	if err := b.join(ctx, c, ring); err != nil {
		return nil, errors.Join(err, b.close(ctx))
	}
	if err := b.database.patiently(ctx, c, func(ctx context.Context, _ Config) error { return b.store.CheckKeys(ctx) }); err != nil { // before anybody is told that the host is ready
		return nil, errors.Join(c.explainKeys(err), b.close(ctx))
	}
	return b, nil
}

func (b *building) join(ctx context.Context, c Config, ring *keys.Ring) error {
	b.store = stack.NewStore(b.database.pool, ring)
	deps := functions.Deps{Store: b.store, Engine: b.engine, Pool: b.database.pool, Log: c.Log,
		Open: func(function string) bool { return c.Open || c.function(function).Open }}
	services := functions.Services(deps)
	maps.Copy(services, c.Services)
	if err := b.observe(ctx, c, services); err != nil {
		return err
	}
	b.processor = stack.NewProcessor(faulty(stack.Config{
		Store:     b.store,
		Engine:    b.engine,
		Services:  services,
		HostName:  b.hostName(c),
		Exclusive: b.database.server != nil, // whoever has the data directory is alone
		Poll:      b.database.pooler.polls(),
		MaxBodies: c.MaxBodies,
		MaxQueued: c.MaxQueued,
		Grace:     c.Grace,
		Retention: c.Retention, Strict: c.Strict,
		MaxDepth:  c.MaxDepth,
		MaxNested: c.MaxNested,
		Memory:    c.Memory / 4,
		Drain:     c.Drain - 2*c.grace() - b.flush,
		Observe:   b.heard,
		Log:       c.Log,
	}))
	deps.Processor = b.processor
	b.functions = functions.Table(deps)
	return nil
}

// hostName is the same for each host of an embedded database, of which there is
// one at a time: it takes over from the one before.
func (b *building) hostName(c Config) string {
	if b.database.server != nil {
		return "dev"
	}
	return c.HostName
}

func (b *building) close(ctx context.Context) error {
	var err error
	b.sendLastSpans(ctx)
	if b.engine != nil {
		err = b.engine.Close(context.WithoutCancel(ctx))
	}
	if b.database != nil {
		err = errors.Join(err, b.database.close(ctx))
	}
	return err
}

// openRing returns amber's own keys, from the configuration or from their file.
// It makes that file for a new database alone: fresh keys open nothing old.
func openRing(c Config) (*keys.Ring, error) {
	if c.AmberKeys != "" {
		return keys.ParseRing(c.AmberKeys)
	}
	if c.DataDir == "" {
		return nil, errors.New("no AMBER_KEYS, and no data directory to keep them in")
	}
	if _, err := os.Stat(c.DataDir); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(c.DataDir, 0o755); err != nil {
			return nil, fmt.Errorf("make data directory: %w", err)
		}
		// Whatever the umask: Postgres may run as another user, who passes through.
		if err := os.Chmod(c.DataDir, 0o755); err != nil {
			return nil, fmt.Errorf("make data directory: %w", err)
		}
	}
	file, postgres := c.keyFile(), c.postgresDir()
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		old, err := local.HasDatabase(postgres)
		if err != nil {
			return nil, fmt.Errorf("look for a database: %w", err)
		}
		if old {
			return nil, fmt.Errorf("%s has a database, and %s, which its snapshots are sealed with, is missing: "+
				"restore it, or move the database away", postgres, file)
		}
	}
	return keys.LoadOrCreateRing(file)
}

func listen(ctx context.Context, c Config) (net.Listener, error) {
	var config net.ListenConfig
	address := net.JoinHostPort(c.listen(), strconv.Itoa(c.Port))
	listener, err := config.Listen(ctx, "tcp", address)
	// A host that was killed a moment ago may not have gone yet.
	for retries := 10; errors.Is(err, syscall.EADDRINUSE) && retries > 0 && ctx.Err() == nil; retries-- {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
		listener, err = config.Listen(ctx, "tcp", address)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %d is in use: stop what listens there (another amber, or a local Supabase), "+
			"or choose another port with --port or AMBER_PORT", c.Port)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, nil
}
