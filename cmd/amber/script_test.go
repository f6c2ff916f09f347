package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/amberhost/amber/internal/pgtest"
)

// TestScripts runs testdata/script: the program as people use it, one file for
// each command. Beside testscript's own commands a script has
//
//	host                       takes the host that all scripts share: $AMBER_URL, $HOST_PORT, $HOST_DB_PORT
//	database                   makes an empty database: $DATABASE_URL, on the server $DB_ADDRESS
//	sql TEXT                   runs SQL in $DATABASE_URL
//	port NAME                  finds a free port: $NAME
//	amber ...                  runs the program, which must succeed; ! amber must fail
//	exits CODE ...             runs the program, which must end with that code
//	start NAME ...             starts the program beside the script, as NAME
//	await NAME PATTERN [VAR]   waits until it has written that; $VAR is the first group of it
//	end NAME SIGNAL CODE       sends INT, TERM, KILL or nothing (-), and wants it to end with CODE
//
// After end the files NAME.stdout and NAME.stderr are what it has written.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: setUpScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"amber":    scriptAmber,
			"exits":    scriptExits,
			"host":     scriptHost,
			"database": scriptDatabase(t),
			"port":     scriptPort,
			"sql":      scriptSQL,
			"start":    scriptStart,
			"await":    scriptAwait,
			"end":      scriptEnd,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

func setUpScript(e *testscript.Env) error {
	program, err := binary()
	if err != nil {
		return err
	}
	h, err := shared()
	if err != nil {
		return err
	}
	// Postgres must reach its data whoever it runs as: not below the script's own directory.
	data, err := os.MkdirTemp("", "amber-script-")
	if err != nil {
		return err
	}
	e.Defer(func() { _ = os.RemoveAll(data) })
	if err := os.Chmod(data, 0o755); err != nil {
		return err
	}
	e.Values[started] = make(processes)
	e.Vars = append(e.Vars,
		"PATH="+filepath.Dir(program)+string(os.PathListSeparator)+os.Getenv("PATH"),
		"AMBER_DATA="+data,
		"AMBER_POSTGRES_BIN="+os.Getenv("AMBER_POSTGRES_BIN"),
		"AMBER_CACHE="+filepath.Join(h.data, "cache"), // has the compiled engine
		"TZ=UTC",
	)
	return nil
}

func scriptAmber(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("amber", args...)
	switch {
	case err == nil && neg:
		ts.Fatalf("amber succeeded")
	case err != nil && !neg:
		ts.Fatalf("amber: %v", err)
	}
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE amber ...")
	}
	if got := exitOf(ts.Exec(args[1], args[2:]...)); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit %d, want %s", got, args[0])
	}
}

// exitOf returns the exit code behind what exec.Cmd returned; -1 for a signal's.
func exitOf(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -2
}

func scriptHost(ts *testscript.TestScript, _ bool, _ []string) {
	h, err := shared()
	ts.Check(err)
	ts.Setenv("AMBER_URL", h.url)
	ts.Setenv("HOST_PORT", h.port)
	ts.Setenv("HOST_DB_PORT", h.dbPort)
}

func scriptSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sql TEXT")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, ts.Getenv("DATABASE_URL"))
	ts.Check(err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, args[0])
	ts.Check(err)
}

func scriptDatabase(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, _ []string) {
		database := pgtest.NewEmpty(t)
		config, err := pgx.ParseConfig(database)
		ts.Check(err)
		ts.Setenv("DATABASE_URL", database)
		ts.Setenv("DB_ADDRESS", net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))))
	}
}

func scriptPort(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: port NAME")
	}
	port, _, err := freePorts()
	ts.Check(err)
	ts.Setenv(args[0], port)
}

// started is where a script keeps its processes.
const started = "started"

// processes are those that a script has started, by name.
type processes map[string]*process

type process struct {
	cmd            *exec.Cmd
	stdout, stderr *console
	ended          chan error
}

func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || args[1] != "amber" {
		ts.Fatalf("usage: start NAME amber ...")
	}
	program, err := binary()
	ts.Check(err)
	p := &process{stdout: newConsole(), stderr: newConsole(), ended: make(chan error, 1)}
	p.cmd = exec.Command(program, args[2:]...)
	p.cmd.Dir = ts.MkAbs(".")
	for _, name := range scriptVariables {
		p.cmd.Env = append(p.cmd.Env, name+"="+ts.Getenv(name))
	}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	ts.Check(p.cmd.Start())
	go p.wait()
	ts.Value(started).(processes)[args[0]] = p
	ts.Defer(p.cleanUp)
}

// scriptVariables are those that a process beside the script gets.
var scriptVariables = []string{"PATH", "HOME", "TMPDIR", "TZ", "AMBER_DATA", "AMBER_CACHE", "AMBER_POSTGRES_BIN", "AMBER_URL", "AMBER_PORT",
	"AMBER_DB_PORT", "AMBER_KEY", "AMBER_KEYS", "DATABASE_URL", "SUPABASE_JWT_SECRET", "SUPABASE_SECRET_KEY"}

func (p *process) wait() {
	err := p.cmd.Wait()
	p.stdout.end()
	p.stderr.end()
	p.ended <- err
}

// cleanUp ends a process that a failed script has left.
func (p *process) cleanUp() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		p.ended <- err
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
	}
}

func scriptProcess(ts *testscript.TestScript, name string) *process {
	p := ts.Value(started).(processes)[name]
	if p == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return p
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: await NAME PATTERN [VAR]")
	}
	p := scriptProcess(ts, args[0])
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	found, err := p.await(pattern)
	if err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	if len(args) == 3 {
		ts.Setenv(args[2], found[1])
	}
}

// await waits until the process has written something that pattern matches.
func (p *process) await(pattern *regexp.Regexp) ([]string, error) {
	deadline := time.After(patience)
	for {
		out, outMore, outEnded := p.stdout.now()
		errs, errsMore, errsEnded := p.stderr.now()
		for _, text := range []string{out, errs} {
			if found := pattern.FindStringSubmatch(text); found != nil {
				return found, nil
			}
		}
		if outEnded && errsEnded {
			return nil, fmt.Errorf("ended without %q:\n%s%s", pattern, out, errs)
		}
		select {
		case <-outMore:
		case <-errsMore:
		case <-deadline:
			return nil, fmt.Errorf("no %q after %v:\n%s%s", pattern, patience, out, errs)
		}
	}
}

var scriptSignals = map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM, "KILL": os.Kill, "-": nil}

func scriptEnd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: end NAME SIGNAL CODE")
	}
	p := scriptProcess(ts, args[0])
	signal, ok := scriptSignals[args[1]]
	if !ok {
		ts.Fatalf("no signal %s", args[1])
	}
	if signal != nil {
		ts.Check(p.cmd.Process.Signal(signal))
	}
	var err error
	select {
	case err = <-p.ended:
		p.ended <- err
	case <-time.After(patience):
		ts.Fatalf("%s goes on:\n%s%s", args[0], p.stdout, p.stderr)
	}
	for suffix, c := range map[string]*console{".stdout": p.stdout, ".stderr": p.stderr} {
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+suffix), []byte(c.String()), 0o600))
	}
	if got := exitOf(err); strconv.Itoa(got) != args[2] {
		ts.Fatalf("%s ended with %d, want %s:\n%s%s", args[0], got, args[2], p.stdout, p.stderr)
	}
}
