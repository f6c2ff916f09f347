package host_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/supabase/keys"
)

// freePort returns a port that is free now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// reachableDir makes a directory that the user whom Postgres runs as can enter;
// t.TempDir is below one that they cannot.
func reachableDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "amber-host-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestEmbedded starts a host that brings its own Postgres and publishes the
// built-in examples, stops it, and starts it again on the same data.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	dir := reachableDir(t)
	dbPort := freePort(t)
	set := func(c *host.Config) { c.DataDir, c.DBPort = dir, dbPort }

	first := start(t, set)
	if first.info.FunctionsURL != first.info.URL+"/functions/v1" || first.info.AnonKey != keys.Local().AnonKey ||
		!strings.Contains(first.info.DatabaseURL, strconv.Itoa(dbPort)) {
		t.Errorf("info: %+v", first.info)
	}
	run := first.execute(t, `{"taskName":"hello","input":{"name":"Ada"}}`)
	if run.Status != "completed" {
		t.Errorf("hello: %+v", run)
	}
	if want := "postgres at 127.0.0.1:" + strconv.Itoa(dbPort); first.info.Database != want {
		t.Errorf("database: %q, want %q", first.info.Database, want)
	}
	first.lines.await(t, `msg="anybody on this machine may publish tasks: this host is open"`, "function=publish")
	if file, err := os.Stat(dir + "/amber-keys"); err != nil || file.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", file, err)
	}
	if err := first.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if conn, err := pgx.Connect(t.Context(), first.info.DatabaseURL); err == nil {
		conn.Close(t.Context())
		t.Error("Postgres runs on after the host has stopped")
	}

	second := start(t, set)
	if a := second.do(t, "GET", "/functions/v1/tasks/status/"+run.ID, ""); a.text(t, "status") != "completed" {
		t.Errorf("after the second start: %d %s", a.status, a.body)
	}
	second.lines.await(t, `msg="task unchanged"`, "task=hello")
}

// TestLostKeys: keys that are gone are not replaced by ones that open nothing.
func TestLostKeys(t *testing.T) {
	t.Parallel()
	dir := reachableDir(t)
	if err := os.MkdirAll(dir+"/postgres/data", 0o755); err != nil {
		t.Fatal(err)
	}
	err := host.New(host.Config{DataDir: dir, CacheDir: cacheDir}).Run(t.Context())
	want := dir + "/postgres has a database, and " + dir + "/amber-keys, which its snapshots are sealed with, is missing"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Run: %v, want %q", err, want)
	}
	if _, err := os.Stat(dir + "/amber-keys"); !os.IsNotExist(err) {
		t.Errorf("new keys were made: %v", err)
	}
}

// TestPostgresEnds: without its Postgres a host is no use, and says so.
func TestPostgresEnds(t *testing.T) {
	t.Parallel()
	dir := reachableDir(t)
	r := start(t, func(c *host.Config) { c.DataDir, c.DBPort = dir, freePort(t) })
	file, err := os.ReadFile(dir + "/postgres/data/postmaster.pid")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(file), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := r.wait(); err == nil || !strings.Contains(err.Error(), "Postgres has ended by itself") {
		t.Errorf("Run: %v", err)
	}
}

// TestDatabaseAway: while the database takes no connections requests are told
// to come back, and afterwards everything goes on.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *host.Config) {
		c.TasksDir = tasksDir(t, map[string]string{"ok.js": "module.exports = () => 'ok'"})
	})
	config, err := pgx.ParseConfig(r.info.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	name := config.Database
	config.Database = "postgres"
	admin, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.WithoutCancel(t.Context()))
	sql := func(statement string) {
		if _, err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	sql("alter database " + name + " allow_connections false")
	sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = '" + name + "'")
	for _, path := range []string{"/functions/v1/tasks/execute", "/functions/v1/tasks"} {
		a := r.do(t, "POST", path, `{"taskName":"ok"}`)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || a.text(t, "code") != "DATABASE_UNAVAILABLE" {
			t.Errorf("%s: %d %v %s", path, a.status, a.header, a.body)
		}
	}
	if a := r.do(t, "GET", "/health", ""); a.status != http.StatusOK || a.text(t, "database") != "unreachable" {
		t.Errorf("health: %d %s", a.status, a.body)
	}
	sql("alter database " + name + " allow_connections true")
	if run := r.execute(t, `{"taskName":"ok"}`); run.Status != "completed" {
		t.Errorf("afterwards: %+v", run)
	}
}

// TestStop: a request that waits for a run is answered, the run goes on later.
func TestStop(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *host.Config) { c.TasksDir = tasksDir(t, map[string]string{"never.js": wireTasks["never.js"]}) })
	answered := make(chan answer)
	go func() { answered <- r.do(t, "POST", execute, `{"taskName":"never"}`, "Prefer: wait=300") }()
	r.awaitSuspended(t)
	begin := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	if a := <-answered; a.status != 202 || a.text(t, "status") != "suspended" {
		t.Errorf("%d %s", a.status, a.body)
	}
	err := <-stopped
	t.Log("stopped after", time.Since(begin))
	if err != nil || time.Since(begin) > 8*time.Second {
		t.Errorf("Run: %v after %v", err, time.Since(begin))
	}
	if _, err := r.client.Get(r.info.URL + "/health"); err == nil {
		t.Error("the host still serves")
	}
}

// awaitSuspended asks the database until a run is suspended.
func (r *running) awaitSuspended(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, r.info.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for suspended := false; !suspended; {
		err := conn.QueryRow(ctx, `select count(*) > 0 from public.task_runs, pg_sleep(0.01) where status = 'suspended'`).Scan(&suspended)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	err = host.New(host.Config{Port: port, DataDir: t.TempDir()}).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "--port") || !strings.Contains(err.Error(), strconv.Itoa(port)) {
		t.Errorf("Run: %v", err)
	}
}

// TestNoStart: what cannot start leaves nothing behind (see the leak check).
func TestNoStart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config host.Config
		want   string
	}{
		"no database":       {host.Config{DatabaseURL: "postgres://127.0.0.1:1/none?connect_timeout=5"}, "DATABASE_URL: no Postgres answers at 127.0.0.1:1"},
		"none, by a flag":   {host.Config{DatabaseURL: "host=127.0.0.1 port=1", DatabaseVia: "--database-url"}, "--database-url: no Postgres answers at 127.0.0.1:1"},
		"no URL":            {host.Config{DatabaseURL: "postgres://%zz"}, "parse database URL"},
		"bad keys":          {host.Config{AmberKeys: "k1"}, "parse keys"},
		"no Postgres there": {host.Config{PostgresBin: "/nonexistent", DBPort: 1}, "AMBER_POSTGRES_BIN names /nonexistent,"},
		"nor there":         {host.Config{PostgresBin: "/nonexistent", PostgresBinVia: "--postgres-bin", DBPort: 1}, "--postgres-bin names /nonexistent,"},
		"no such tasks":     {host.Config{TasksDir: "/nonexistent", DBPort: 1}, "AMBER_TASKS: there is no directory /nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.config.DataDir, test.config.CacheDir = reachableDir(t), cacheDir
			err := host.New(test.config).Run(t.Context())
			if err == nil || strings.Count(err.Error(), test.want) != 1 {
				t.Errorf("Run: %v, want %q once", err, test.want)
			}
		})
	}
	t.Run("a cache of everybody's", func(t *testing.T) {
		t.Parallel()
		cache := t.TempDir()
		if err := os.Chmod(cache, 0o777); err != nil {
			t.Fatal(err)
		}
		err := host.New(host.Config{DatabaseURL: pgtest.New(t), DataDir: t.TempDir(), CacheDir: cache}).Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), cache+" can be written by others") || !strings.Contains(err.Error(), "AMBER_CACHE") {
			t.Errorf("Run: %v", err)
		}
	})
	t.Run("no tasks", func(t *testing.T) {
		t.Parallel()
		r := start(t, func(c *host.Config) { c.TasksDir = tasksDir(t, nil) })
		if a := r.do(t, "GET", "/functions/v1/tasks/list", ""); a.status != http.StatusOK || compact(t, a.body) != `{"tasks":[]}` {
			t.Errorf("list: %s", a.body)
		}
	})
	t.Run("stopped while it starts", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := host.New(host.Config{DataDir: t.TempDir(), CacheDir: cacheDir, DatabaseURL: "postgres://127.0.0.1:1/none"}).Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestStoppedAtTheDoor: a host that is told to stop while it connects stops well,
// whatever comes of the connection.
func TestStoppedAtTheDoor(t *testing.T) {
	t.Parallel()
	if err := compiled(); err != nil {
		t.Fatal(err)
	}
	refusal := "SFATAL\x00VFATAL\x00C28000\x00Mgo away\x00\x00"
	refusal = "E" + string(binary.BigEndian.AppendUint32(nil, uint32(4+len(refusal)))) + refusal
	for _, said := range []string{refusal, "no Postgres at all", ""} {
		for range 12 { // pgx may see the end of ctx before it sees the answer
			ctx, cancel := context.WithCancel(t.Context())
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var door sync.WaitGroup
			door.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Read(make([]byte, 1000))
					cancel()
					_, _ = conn.Write([]byte(said))
					conn.Close()
				}
			})
			err = host.New(host.Config{DataDir: t.TempDir(), CacheDir: cacheDir, DatabaseURL: "postgres://" + l.Addr().String() + "/x?sslmode=disable"}).Run(ctx)
			l.Close()
			door.Wait()
			if cancel(); err != nil {
				t.Fatalf("Run, when the answer is %q: %v", said, err)
			}
		}
	}
}
