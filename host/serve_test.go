package host_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/supabase/keys"
)

// ofServe is what amber serve makes of an environment, on the given database.
func ofServe(t *testing.T, database string, pairs ...string) host.Config {
	t.Helper()
	pairs = append(pairs, "DATABASE_URL", database, "SUPABASE_JWT_SECRET", keys.Local().JWTSecret, "AMBER_KEYS", newKey(t, "k"),
		"AMBER_PORT", strconv.Itoa(freePort(t)), "AMBER_CACHE", cacheDir, "AMBER_TASKS", tasksDir(t, wireTasks), "AMBER_DRAIN", "5s")
	c, err := host.Load(host.Sources{Mode: host.Serve, Getenv: variables(pairs...)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve starts a host without waiting until it is ready.
func serve(t *testing.T, c host.Config) *running {
	t.Helper()
	if err := compiled(); err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, lines: make(logLines, 10_000), client: &http.Client{Transport: &http.Transport{}, Timeout: patience}}
	c.Log = slog.New(slog.NewTextHandler(r.lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.info.URL = "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port))
	r.begin(c)
	return r
}

// service is who may do everything.
var service = "Authorization: Bearer " + keys.Local().ServiceRoleKey

// run runs a task to its end.
func (r *running) result(t *testing.T, body string) string {
	t.Helper()
	a := r.do(t, "POST", execute, body, service, "Prefer: wait=60")
	if a.status != 200 || a.text(t, "status") != "completed" {
		t.Fatalf("%s: %d %s", body, a.status, a.body)
	}
	return a.field(t, "result")
}

// awaitReady asks until the host says that it is as wanted.
func (r *running) awaitReady(t *testing.T, want string) answer {
	t.Helper()
	for timeout := time.After(patience); ; {
		a := r.do(t, "GET", "/ready", "")
		if a.text(t, "status") == want {
			return a
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-timeout:
			t.Fatalf("ready: %d %s, want %s", a.status, a.body, want)
		}
	}
}

// TestAway: the database is away at the start, comes, goes and comes again.
func TestAway(t *testing.T) {
	t.Parallel()
	way, database := newRelay(t, pgtest.New(t))
	r := serve(t, ofServe(t, database, "AMBER_DATABASE_WAIT", patience.String()))
	r.lines.await(t, "the database is away: trying again", "no Postgres answers at "+way.address)
	if a := r.do(t, "GET", "/health", ""); a.status != 200 || a.text(t, "status") != "ok" {
		t.Errorf("health at the start: %d %s", a.status, a.body)
	}
	if a := r.awaitReady(t, "starting"); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("ready at the start: %d %v", a.status, a.header)
	}
	early, before := make(chan answer, 1), *r // r.info changes when it is ready
	go func() {
		early <- before.do(t, "POST", execute, `{"taskName":"echo","input":1}`, service, "Prefer: wait=60")
	}()
	way.open()
	r.awaitBegun(t)
	if a := <-early; a.status != 200 || a.field(t, "result") != "1" {
		t.Errorf("a request that came early: %d %s", a.status, a.body)
	}
	if a := r.awaitReady(t, "ready"); a.status != 200 || a.text(t, "database")+a.text(t, "schema")+a.text(t, "processor") != "okokok" {
		t.Errorf("ready: %d %s", a.status, a.body)
	}

	way.close()
	if a := r.awaitReady(t, "unavailable"); a.status != 503 || a.header.Get("Retry-After") == "" || a.text(t, "database") != "unreachable" {
		t.Errorf("ready without a database: %d %s", a.status, a.body)
	}
	if a := r.do(t, "GET", "/health", ""); a.status != 200 || a.text(t, "database") != "unreachable" {
		t.Errorf("health without a database: %d %s", a.status, a.body)
	}
	if a := r.do(t, "POST", execute, `{"taskName":"echo"}`, service); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("execute without a database: %d %s", a.status, a.body)
	}

	way.open()
	if a := r.awaitReady(t, "ready"); a.status != 200 {
		t.Errorf("ready again: %d %s", a.status, a.body)
	}
	if got := r.result(t, `{"taskName":"nest","input":2}`); got != "2" {
		t.Errorf("result again: %s", got)
	}
	if a := r.do(t, "GET", "/health", ""); a.text(t, "database") != "ok" {
		t.Errorf("health again: %s", a.body)
	}
}

// TestNoSchema: a database that has lost its tables is not ready.
func TestNoSchema(t *testing.T) {
	t.Parallel()
	r := serve(t, ofServe(t, pgtest.New(t)))
	r.awaitBegun(t)
	runSQL(t, r.info.DatabaseURL, "drop table amber.migrations")
	if a := r.awaitReady(t, "unavailable"); a.status != 503 || a.text(t, "schema") != "missing" || a.text(t, "database") != "ok" {
		t.Errorf("ready: %d %s", a.status, a.body)
	}
}

func runSQL(t *testing.T, database, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience) // clean-ups use it too
	defer cancel()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestGivesUp: a database that does not come, and one that is there and refuses.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	_, closed := newRelay(t, pgtest.NewEmpty(t))
	config, err := pgx.ParseConfig(pgtest.NewEmpty(t))
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	nobody := "postgres://no_such_role:hunter2@" + address + "/" + config.Database
	const refusal = `does not let user "no_such_role" in with this password`
	for database, want := range map[string]string{
		closed: "(waited 300ms)",
		nobody: "DATABASE_URL: Postgres at " + address + " " + refusal,
		"postgres://app:hunter2@no..such..host/x": "DATABASE_URL: look up the database's host no..such..host: no such host (waited 300ms)",
	} {
		wait := "300ms"
		if database == nobody {
			wait = "10m" // it is not waited for
		}
		err := host.New(ofServe(t, database, "AMBER_DATABASE_WAIT", wait)).Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\t") || strings.Contains(err.Error(), "hunter2") ||
			strings.Count(err.Error(), "no such host") > 1 {
			t.Errorf("Run: %v, want %q", err, want)
		}
	}
}

// TestCheckOnly: a host that may not migrate starts on what is up to date alone.
func TestCheckOnly(t *testing.T) {
	t.Parallel()
	empty := pgtest.NewEmpty(t)
	err := host.New(ofServe(t, empty, "AMBER_MIGRATE", "check")).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "0001_") || !strings.Contains(err.Error(), "amber migrate") {
		t.Errorf("Run: %v", err)
	}
	c := ofServe(t, empty)
	plan, err := host.Migrate(t.Context(), c, true)
	if err != nil || len(plan.Files) == 0 {
		t.Fatalf("dry run: %+v, %v", plan, err)
	}
	done, err := host.Migrate(t.Context(), c, false)
	if err != nil || strings.Join(done.Files, " ") != strings.Join(plan.Files, " ") {
		t.Fatalf("Migrate: %+v, %v; planned %+v", done, err, plan)
	}
	if again, err := host.Migrate(t.Context(), c, false); err != nil || len(again.Files)+len(again.Changes) != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	r := serve(t, ofServe(t, empty, "AMBER_MIGRATE", "check"))
	r.awaitBegun(t)
	if got := r.result(t, `{"taskName":"echo","input":3}`); got != "3" {
		t.Errorf("result %s", got)
	}
}

// TestOpened: what config.toml opens is said at the start, and is open.
func TestOpened(t *testing.T) {
	t.Parallel()
	c := ofServe(t, pgtest.New(t), "AMBER_WORKDIR", workdir(t, "[functions.publish]\nverify_jwt = false\n[amber]\nfiends = 1\n"))
	r := serve(t, c)
	r.lines.await(t, "level=WARN", "amber.fiends means nothing")
	r.lines.await(t, "level=WARN", "one that every local Supabase project has")
	r.lines.await(t, "level=WARN", "anybody may publish tasks, without a key", "supabase/config.toml:2")
	r.awaitBegun(t)
	if a := r.do(t, "POST", "/functions/v1/publish", `{"name":"opened","code":"module.exports = () => 1"}`); a.status != 200 {
		t.Errorf("publish: %d %s", a.status, a.body)
	}
	if a := r.do(t, "POST", execute, `{"taskName":"opened"}`); a.status != 401 {
		t.Errorf("execute: %d %s", a.status, a.body)
	}
}

// TestListen: a host is where it was told to be.
func TestListen(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{"localhost": "http://127.0.0.1:", "0.0.0.0": "http://127.0.0.1:"} {
		c := ofServe(t, pgtest.New(t), "AMBER_LISTEN", address, "SUPABASE_JWT_SECRET", "a secret that nobody else has")
		r := serve(t, c)
		r.awaitBegun(t)
		if !strings.HasPrefix(r.info.URL, want) {
			t.Errorf("%s: %s", address, r.info.URL)
		}
		if a := r.do(t, "GET", "/ready", ""); a.status != 200 {
			t.Errorf("%s: %d %s", address, a.status, a.body)
		}
	}
	c := ofServe(t, "postgres://127.0.0.1/x", "AMBER_LISTEN", "192.0.2.1", "SUPABASE_JWT_SECRET", "a secret that nobody else has")
	if err := host.New(c).Run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "listen on 192.0.2.1:") {
		t.Errorf("Run: %v", err)
	}
	if err := host.New(host.Config{Open: true, Listen: "0.0.0.0", DataDir: t.TempDir()}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "open to everybody") {
		t.Errorf("Run: %v", err)
	}
}

// TestHandOver: what a host holds that is told to stop, another of the same
// database ends.
func TestHandOver(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	first, second := ofServe(t, database), ofServe(t, database)
	second.AmberKeys, second.HostName = first.AmberKeys, "second"
	one := serve(t, first)
	one.awaitBegun(t)
	a := one.do(t, "POST", execute, `{"taskName":"sleep","input":100}`, service)
	if a.status != 202 {
		t.Fatalf("execute: %d %s", a.status, a.body)
	}
	id := a.text(t, "taskRunId")
	if err := one.stop(); err != nil {
		t.Fatal(err)
	}
	two := serve(t, second)
	two.awaitBegun(t)
	runSQL(t, database, `do $$ begin assert (select array_agg(name) from amber.hosts) = array['second']; end $$`)
	if two.info.HostName != "second" || one.info.HostName == "second" {
		t.Errorf("hosts are called %q and %q", one.info.HostName, two.info.HostName)
	}
	if a := two.do(t, "GET", "/functions/v1/tasks/result/"+id, "", service, "Prefer: wait=60"); a.status != 200 || a.text(t, "status") != "completed" {
		t.Errorf("result: %d %s", a.status, a.body)
	}
}

// TestRestricted: a role that may do little more than own its database.
func TestRestricted(t *testing.T) {
	t.Parallel()
	admin := pgtest.NewEmpty(t)
	config, err := pgx.ParseConfig(admin)
	if err != nil {
		t.Fatal(err)
	}
	role := "owner_of_" + config.Database
	runSQL(t, admin, "create role "+role+" login password 'x'; grant all on database "+config.Database+" to "+role+"; grant create on schema public to "+role)
	t.Cleanup(func() {
		runSQL(t, admin, "reassign owned by "+role+" to current_user; drop owned by "+role+"; drop role "+role)
	})
	r := serve(t, ofServe(t, "postgres://"+role+":x@"+net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))+"/"+config.Database))
	r.awaitBegun(t)
	if got := r.result(t, `{"taskName":"nest","input":4}`); got != "4" {
		t.Errorf("result %s", got)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

// TestSupervisor is systemd's side of sd_notify.
func TestSupervisor(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	await := func(want string, not ...string) {
		t.Helper()
		_ = heard.SetReadDeadline(time.Now().Add(patience))
		for {
			message := make([]byte, 100)
			n, err := heard.Read(message)
			if err != nil {
				t.Fatalf("no %s: %v", want, err)
			}
			if string(message[:n]) == want {
				return
			}
			for _, wrong := range not {
				if string(message[:n]) == wrong {
					t.Fatalf("%s before %s", wrong, want)
				}
			}
		}
	}
	r := serve(t, ofServe(t, pgtest.New(t), "NOTIFY_SOCKET", socket, "WATCHDOG_USEC", "20000", "WATCHDOG_PID", strconv.Itoa(os.Getpid())))
	await("READY=1", "STOPPING=1")
	r.awaitBegun(t)
	await("WATCHDOG=1", "STOPPING=1")
	await("WATCHDOG=1", "STOPPING=1")
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	await("STOPPING=1")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	c := ofServe(t, "postgres://127.0.0.1/x", "WATCHDOG_USEC", "20000", "WATCHDOG_PID", "1")
	if c.Supervisor.Watchdog != 0 {
		t.Error("took a watchdog that is for another process")
	}
	if _, err := host.Load(host.Sources{Mode: host.Serve, Getenv: variables("WATCHDOG_USEC", "soon")}); err == nil || !strings.HasPrefix(err.Error(), "WATCHDOG_USEC: ") {
		t.Errorf("bad WATCHDOG_USEC: %v", err)
	}
}
