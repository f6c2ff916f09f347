package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// DefaultPort is the database port of a local Supabase.
const DefaultPort = 54322

// ErrPortInUse says that another program listens on the port.
var ErrPortInUse = errors.New("port in use")

// Config says where and how a Postgres runs. Dir is required.
type Config struct {
	Dir      string            // holds the data, the log and the socket; made if it is not there
	Port     int               // on 127.0.0.1; 0 means DefaultPort
	BinDir   string            // where postgres and initdb are; "" searches as FindBinaries does, then fetches
	Settings map[string]string // more server settings, by their names in postgresql.conf
	Log      *slog.Logger      // progress too; nil discards

	BinDirVia string // what gave BinDir, for messages; "" means AMBER_POSTGRES_BIN

	// Where neither BinDir is given nor the machine has a Postgres that can run
	// Dir, one is fetched, once.
	Repository string // where from: a Maven repository's URL; "" means DefaultRepository
	CacheDir   string // where it stays, which Postgres' user must reach; "" means DefaultCacheDir
	Offline    bool   // fetches nothing; what was fetched before is used all the same

	bare     bool          // of tests: a machine without Postgres
	patience time.Duration // of tests: versionPatience
}

// Server is a running Postgres and the ownership of its directory.
type Server struct {
	postmaster *postmaster
	port       int
	adopted    bool
	lock       *os.File
	layout     layout
	began      int64 // where in the log; 0 for an adopted one

	stopOnce sync.Once
	stopErr  error
}

// Start runs Postgres on a directory until Stop, and returns when it answers.
// A Postgres that still runs there because its host was killed is adopted if it
// has the right port, else stopped first.
//
// Errors wrap [ErrNoBinaries], [ErrLocked] or [ErrPortInUse] where these are
// the cause; each names the cause and what to do.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Port == 0 {
		cfg.Port = DefaultPort
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, err := layoutOf(cfg.Dir)
	if err == nil {
		var s *Server
		if s, err = start(ctx, cfg, l); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("start Postgres in %s: %w", cfg.Dir, l.explain(err))
}

// URL is the server's connection string, for the role postgres: no superuser,
// unless the data directory is of an amber that made it one.
func (s *Server) URL() string { return dsn(s.port) }

// Adopted tells whether the server was running already.
func (s *Server) Adopted() bool { return s.adopted }

// Stop ends Postgres in order, or without delay when ctx ends, and gives the
// directory up. Calls after the first return what the first did.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		if !s.postmaster.gone() {
			s.stopErr = s.postmaster.stop(ctx)
		}
		s.lock.Close()
	})
	return s.stopErr
}

// Wait returns an error when the server has ended although nobody stopped it,
// and nil when ctx is done.
func (s *Server) Wait(ctx context.Context) error {
	for !s.postmaster.gone() {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchInterval):
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return s.layout.ended(s.layout.tail(s.began))
}

// watchInterval is how often Wait looks.
const watchInterval = 500 * time.Millisecond

func start(ctx context.Context, cfg Config, l layout) (*Server, error) {
	// Whatever can be refused is refused before anything is written.
	a, err := accountFor(l.data)
	if err != nil {
		return nil, err
	}
	if err := a.reach(l.dir); err != nil {
		return nil, fmt.Errorf("%w: choose another directory with --data, one below /var/lib for instance", err)
	}
	major, err := l.major()
	if err != nil {
		return nil, err
	}
	b, err := choose(ctx, cfg, major, a)
	if err != nil {
		return nil, err
	}
	if err := a.reach(b.dir); err != nil {
		return nil, fmt.Errorf("%w, where the Postgres programs are: use others with AMBER_POSTGRES_BIN", err)
	}
	if err := makeDirs(l.dir); err != nil {
		return nil, err
	}
	held, err := lock(l)
	if err != nil {
		return nil, err
	}
	s := &Server{port: cfg.Port, lock: held, layout: l}
	if err := s.open(ctx, cfg, l, b, a); err != nil {
		held.Close()
		return nil, err
	}
	return s, nil
}

// open brings the server up; the directory's lock is held.
func (s *Server) open(ctx context.Context, cfg Config, l layout, b binaries, a account) error {
	if err := s.takeOver(ctx, cfg, l, a); err != nil || s.adopted {
		return err
	}
	major, err := l.major() // again: it may have been made while we had no lock
	if err != nil {
		return err
	}
	if err := portFree(s.port); err != nil {
		return err
	}
	if major == 0 {
		cfg.Log.Info("making a database", "dir", l.dir, "postgres", b.version())
		if err := initData(ctx, l, b, a); err != nil {
			return fmt.Errorf("make the data directory: %w", err)
		}
	}
	if err := a.mkdir(l.run); err != nil {
		return err
	}
	return s.launch(ctx, cfg, l, b, a)
}

// takeOver deals with a Postgres that outlived its host.
func (s *Server) takeOver(ctx context.Context, cfg Config, l layout, a account) error {
	p, port := findPostmaster(l, a)
	if p == nil {
		return nil
	}
	if p.gone() {
		return p.forget(l)
	}
	if ours, _ := p.answers(ctx, port); ours && port == s.port {
		cfg.Log.Info("adopted a running Postgres", "dir", l.dir, "pid", p.pid)
		s.postmaster, s.adopted = p, true
		return nil
	}
	cfg.Log.Info("stopping a Postgres that was left running", "dir", l.dir, "pid", p.pid)
	return p.stop(ctx)
}
