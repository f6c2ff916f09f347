package local_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/supabase/local"
	"github.com/jackc/pgx/v5"
)

func TestDataSurvives(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	half := filepath.Join(dir, "data.new-killed") // what a killed initdb leaves
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	s := start(t, local.Config{Dir: dir})
	if s.Adopted() {
		t.Error("a fresh server is adopted")
	}
	run(t, s, "create table kept as select 'Größe' collate \"default\" as word")
	for setting, want := range map[string]string{
		"wal_level": "logical", "fsync": "on", "listen_addresses": "127.0.0.1", "server_encoding": "UTF8", "TimeZone": "UTC",
		"password_encryption": "scram-sha-256", "unix_socket_directories": filepath.Join(dir, "run"),
	} {
		if got := query(t, s, "select current_setting('"+setting+"')"); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	if pgid, err := syscall.Getpgid(pidOf(t, dir)); err != nil || pgid == syscall.Getpgrp() {
		t.Errorf("the server is in our process group: Ctrl-C would reach it (%v)", err)
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("a half-made data directory stays")
	}
	pid := pidOf(t, dir)
	stop(t, s)
	stop(t, s) // again: nothing
	if alive(pid) {
		t.Error("the server outlived Stop")
	}

	s = start(t, local.Config{Dir: dir})
	if s.Adopted() || query(t, s, "select word from kept") != "Größe" {
		t.Error("the second start found something else")
	}
}

func TestRecoversFromAKill(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	s := start(t, local.Config{Dir: dir})
	run(t, s, "create table kept as select 1")
	if err := syscall.Kill(pidOf(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	s = start(t, local.Config{Dir: dir})
	if s.Adopted() || query(t, s, "select count(*)::text from kept") != "1" {
		t.Error("what was committed is lost")
	}
}

func TestStalePidFileOfALivingProcess(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	s := start(t, local.Config{Dir: dir})
	file := filepath.Join(dir, "data", "postmaster.pid")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	_, rest, _ := strings.Cut(string(text), "\n")
	if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())+"\n"+rest), 0o644); err != nil {
		t.Fatal(err)
	}
	if s = start(t, local.Config{Dir: dir}); s.Adopted() {
		t.Error("adopted a process that is no Postgres")
	}
}

// TestAdoption abandons a server by killing the process that started it.
func TestAdoption(t *testing.T) {
	if dir := os.Getenv("LOCAL_TEST_DIR"); dir != "" {
		start(t, local.Config{Dir: dir})
		fmt.Println("pid", pidOf(t, dir), "port", os.Getenv("LOCAL_TEST_PORT"))
		select {} // until killed
	}
	t.Parallel()
	dir := pgtest.Dir(t)
	pid, port := abandon(t, dir)

	s, err := local.Start(t.Context(), local.Config{Dir: dir, BinDir: binDir(), Port: port, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Adopted() || pidOf(t, dir) != pid {
		t.Fatalf("started process %d, want the running %d adopted", pidOf(t, dir), pid)
	}
	run(t, s, "create table kept as select 1")
	stop(t, s)
	if alive(pid) {
		t.Fatal("an adopted server outlived Stop")
	}

	pid, _ = abandon(t, dir)
	s = start(t, local.Config{Dir: dir}) // another port
	if s.Adopted() || alive(pid) {
		t.Fatal("a server on another port was not replaced")
	}
	if query(t, s, "select count(*)::text from kept") != "1" {
		t.Error("what was committed is lost")
	}
}

// TestEverythingKilled: the host is killed, and its Postgres before anybody has
// waited for either.
func TestEverythingKilled(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	pid, port := abandon(t, dir)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s := start(t, local.Config{Dir: dir, BinDir: binDir(), Port: port, Offline: true})
	if s.Adopted() || query(t, s, "select 1::text") != "1" {
		t.Error("the server was not started anew")
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	s := start(t, local.Config{Dir: dir})
	told, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(told); err != nil {
		t.Errorf("told to return: %v", err)
	}
	if err := syscall.Kill(pidOf(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context()); err == nil {
		t.Error("a killed server goes unnoticed")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	s := start(t, local.Config{Dir: dir})
	_, err := local.Start(t.Context(), local.Config{Dir: dir, BinDir: binDir(), Port: freePort(t), Offline: true})
	refused(t, err, local.ErrLocked, dir, "process "+strconv.Itoa(os.Getpid()), "--data")

	port := portOf(t, s)
	_, err = local.Start(t.Context(), local.Config{Dir: pgtest.Dir(t), BinDir: binDir(), Port: port, Offline: true})
	refused(t, err, local.ErrPortInUse, strconv.Itoa(port), "a local Supabase, or the Postgres of a killed amber", "--db-port or AMBER_DB_PORT")
	stop(t, s)

	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = local.Start(t.Context(), local.Config{Dir: dir, BinDir: binDir(), Port: freePort(t), Offline: true})
	refused(t, err, nil, dir, "made by Postgres 9", "install Postgres 9", "--data")
}

func TestRefusesBrokenConfiguration(t *testing.T) {
	t.Parallel()
	_, err := local.Start(t.Context(), local.Config{
		Dir: pgtest.Dir(t), BinDir: binDir(), Port: freePort(t), Offline: true, Settings: map[string]string{"max_connections": "many"},
	})
	refused(t, err, nil, "server.log", `invalid value for parameter "max_connections"`)
}

func TestRefusesMissingBinaries(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	_, err := local.Start(t.Context(), local.Config{Dir: filepath.Join(dir, "db"), BinDir: dir})
	refused(t, err, local.ErrNoBinaries, dir, "AMBER_POSTGRES_BIN")

	for _, program := range []string{"postgres", "initdb"} {
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) 13.2'\n"
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, err = local.Start(t.Context(), local.Config{Dir: filepath.Join(dir, "db"), BinDir: dir})
	refused(t, err, local.ErrNoBinaries, "found 13.2 in "+dir, "15 or newer", "apt-get install", "brew install", "DATABASE_URL")
	if _, err := os.Stat(filepath.Join(dir, "db")); err == nil {
		t.Error("a refused start left a directory")
	}
}

func TestRefusesAnUnreachableDirectory(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root runs Postgres as another user")
	}
	private := t.TempDir() // below a directory of mode 0700
	_, err := local.Start(t.Context(), local.Config{Dir: filepath.Join(private, "a", "b"), BinDir: binDir(), Offline: true})
	refused(t, err, nil, "cannot enter "+filepath.Dir(private), "mode 0700", "--data")
	if files, _ := os.ReadDir(private); len(files) != 0 {
		t.Error("a refused start left something behind")
	}
}

func TestStartIsCancelled(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var log lines
	for _, bin := range []string{binDir(), ""} { // "" looks in the usual places
		if _, err := local.Start(ctx, local.Config{Dir: dir, BinDir: bin, Port: freePort(t), Offline: true, Log: log.logger()}); !errors.Is(err, context.Canceled) {
			t.Errorf("Start = %v, want Canceled", err)
		}
	}
	if said := log.matching(""); len(said) > 0 {
		t.Errorf("it warns of what was cancelled: %q", said)
	}
	start(t, local.Config{Dir: dir})
}

func TestLongPathsHaveNoSocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(pgtest.Dir(t), strings.Repeat("long", 25), "so that a link and", "spaces work")
	s := start(t, local.Config{Dir: dir})
	if got := query(t, s, "select current_setting('unix_socket_directories')"); got != "" {
		t.Errorf("socket in %q", got)
	}
}

func TestFindBinaries(t *testing.T) {
	t.Parallel()
	dir, version, err := local.FindBinaries(binDir())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil || !strings.Contains(string(out), version) {
		t.Errorf("%s is %q, %v, want version %s", dir, out, err, version)
	}
}

// start starts a server on a free port and stops it when the test ends.
func start(t *testing.T, cfg local.Config) *local.Server {
	t.Helper()
	if cfg.CacheDir == "" { // not to be fetched
		cfg.BinDir, cfg.Offline = binDir(), true
	}
	for {
		if cfg.Port, _ = strconv.Atoi(os.Getenv("LOCAL_TEST_PORT")); cfg.Port == 0 {
			cfg.Port = freePort(t)
		}
		began := time.Now()
		s, err := local.Start(t.Context(), cfg)
		if errors.Is(err, local.ErrPortInUse) {
			continue // another process was quicker
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("started in %v", time.Since(began))
		t.Cleanup(func() { stop(t, s) })
		return s
	}
}

// binDir chooses the Postgres that is tested; "" is the machine's own.
func binDir() string { return os.Getenv("AMBER_POSTGRES_BIN") }

func stop(t *testing.T, s *local.Server) {
	t.Helper()
	if err := s.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// abandon leaves a running server without its host.
func abandon(t *testing.T, dir string) (pid, port int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestAdoption$")
	cmd.Env = append(os.Environ(), "LOCAL_TEST_DIR="+dir, "LOCAL_TEST_PORT="+strconv.Itoa(freePort(t)))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // says that it was killed
	if err != nil {
		t.Fatal(line, err)
	}
	if _, err := fmt.Sscanf(line, "pid %d port %d", &pid, &port); err != nil {
		t.Fatal(line, err)
	}
	if !alive(pid) {
		t.Fatal("the server did not outlive its host")
	}
	return pid, port
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func refused(t *testing.T, err, target error, words ...string) {
	t.Helper()
	if err == nil {
		t.Error("not refused")
		return
	}
	if target != nil && !errors.Is(err, target) {
		t.Errorf("%v: is no %v", err, target)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v: does not say %q", err, word)
		}
	}
	t.Log(err)
}

func pidOf(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// alive tells whether a process runs; one that has ended but was not yet waited
// for does not. A small Linux has no ps, a Mac has no /proc.
func alive(pid int) bool {
	if _, err := os.Stat("/proc/self"); err == nil {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline") // empty once its memory is gone
		return err == nil && len(line) > 0
	}
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

func portOf(t *testing.T, s *local.Server) int {
	t.Helper()
	cfg, err := pgx.ParseConfig(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	return int(cfg.Port)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func run(t *testing.T, s *local.Server, sql string) {
	t.Helper()
	if _, err := connect(t, s.URL()).Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, s *local.Server, sql string) (text string) {
	t.Helper()
	if err := connect(t, s.URL()).QueryRow(t.Context(), sql).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// chownLike gives files to the user whom Postgres runs as.
func chownLike(t *testing.T, files ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid) // numbers on Unix
		gid, _ := strconv.Atoi(u.Gid)
		for _, file := range files {
			if err := os.Chown(file, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
}

// TestRunning: a visitor finds the server by its directory, and leaves it running.
func TestRunning(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	find := func() string {
		t.Helper()
		url, err := local.Running(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return url
	}
	if url := find(); url != "" {
		t.Errorf("found %s where nothing is", url)
	}
	s := start(t, local.Config{Dir: dir})
	if url := find(); url != s.URL() {
		t.Errorf("found %q, want %s", url, s.URL())
	}
	if query(t, s, "select 1::text") != "1" {
		t.Error("the server has gone")
	}
	// What the file of a server says that has gone is not believed, though another answers there.
	file := filepath.Join(dir, "data", "postmaster.pid")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := pgtest.Dir(t)
	if err := os.MkdirAll(filepath.Join(other, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "data", "postmaster.pid"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if url, err := local.Running(t.Context(), other); url != "" || err != nil {
		t.Errorf("found another's: %s, %v", url, err)
	}
	stop(t, s)
	if url := find(); url != "" {
		t.Errorf("found %s after the end", url)
	}
}
