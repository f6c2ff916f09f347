package stack_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

// The test binary is also a host: started with roleEnv set it plays that role
// on the database that dsnEnv names.
const (
	roleEnv     = "AMBER_TEST_ROLE"
	dsnEnv      = "AMBER_TEST_DSN"
	argumentEnv = "AMBER_TEST_ARGUMENT"
)

var roles = map[string]func(context.Context, child) error{
	"suicidal": playSuicidal,
	"looping":  playLooping,
	"worker":   playWorker,
	"big":      playBig,
	"brief":    playBrief,
	"heap":     playHeap,
	"soak":     playSoak,
}

func TestMain(m *testing.M) {
	play, ok := roles[os.Getenv(roleEnv)]
	if !ok {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	c, err := newChild(ctx, os.Getenv(dsnEnv))
	if err == nil {
		err = play(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0) // whatever still runs
}

// child is what a host in a process of its own has.
type child struct {
	dsn, argument string
	pool          *pgxpool.Pool
	store         *stack.Store
	engine        *vm.Engine
}

func newChild(ctx context.Context, dsn string) (child, error) {
	c := child{dsn: dsn, argument: os.Getenv(argumentEnv)}
	ring, err := keys.ParseRing(testKey)
	if err != nil {
		return c, err
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return c, err
	}
	stack.UUIDs(cfg)
	if !cannotListen(dsn) {
		stack.PlanOnce(cfg)
	}
	if c.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return c, err
	}
	c.store = stack.NewStore(c.pool, ring)
	c.engine, err = engine()
	return c, err
}

func (c child) processor(set func(*stack.Config)) *stack.Processor {
	cfg := stack.Config{Store: c.store, Engine: c.engine, HostName: os.Getenv(roleEnv), Poll: cannotListen(c.dsn),
		Services: map[string]service.Service{"echo": echo{}}}
	set(&cfg)
	return stack.NewProcessor(cfg)
}

// command is a process that plays a role on the database; it dies with the test.
func (d *db) command(role, argument string) *exec.Cmd {
	d.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.CommandContext(d.t.Context(), exe)
	cmd.Env = append(os.Environ(), roleEnv+"="+role, dsnEnv+"="+d.dsn, argumentEnv+"="+argument)
	return cmd
}
