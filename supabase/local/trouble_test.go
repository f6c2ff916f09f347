package local_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/supabase/local"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestProgramThatHangs(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	for _, program := range []string{"postgres", "initdb"} { // its child holds what it writes to
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\nsleep 3600\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cfg := local.Impatient(local.Config{Dir: filepath.Join(dir, "db"), BinDir: dir}, 100*time.Millisecond)
	_, err := local.Start(t.Context(), cfg)
	refused(t, err, local.ErrNoBinaries, filepath.Join(dir, "postgres")+" --version says nothing for 100ms", "AMBER_POSTGRES_BIN")
}

func TestCleanStopNeedsNoRecovery(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	log := func() string {
		text, err := os.ReadFile(filepath.Join(dir, "server.log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	s := start(t, local.Config{Dir: dir})
	run(t, s, "create table kept as select 1")
	stop(t, s)
	s = start(t, local.Config{Dir: dir})
	if strings.Contains(log(), "automatic recovery") {
		t.Errorf("recovers after Stop:\n%s", log())
	}
	if err := syscall.Kill(pidOf(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	refused(t, s.Wait(t.Context()), nil, "has ended by itself", "start again", "recovers what was committed", filepath.Join(dir, "server.log"))
	stop(t, s)
	start(t, local.Config{Dir: dir})
	if !strings.Contains(log(), "automatic recovery") {
		t.Errorf("does not recover after a kill:\n%s", log())
	}
}

func TestFullDiskAtInitdb(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(smallDisk(t, "20m"), "db")
	_, err := local.Start(t.Context(), local.Config{Dir: dir, BinDir: binDir(), Port: freePort(t), Offline: true})
	refused(t, err, nil, "the disk is full", "make room where "+dir+" is", "--data", "No space left on device")
	if got := names(t, dir); !slices.Equal(got, []string{"lock"}) {
		t.Errorf("it left %q", got)
	}
}

func TestFullDiskAtWork(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(smallDisk(t, "120m"), "db")
	stop(t, start(t, local.Config{Dir: dir}))
	pgtest.Plain(t, dir) // for pg_switch_wal
	s := start(t, local.Config{Dir: dir})
	conn := connect(t, s.URL())
	exec := func(sql string) error {
		_, err := conn.Exec(t.Context(), sql)
		return err
	}
	if err := exec("create table kept as select 1 as n; create table filler (line text)"); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	fill(t, filler, 4<<20)

	// A table that cannot grow: the statement fails, the server goes on.
	var refusal *pgconn.PgError
	for err := error(nil); !errors.As(err, &refusal); {
		if err = exec("insert into filler select repeat('x', 1000) from generate_series(1, 1000)"); err != nil && !errors.As(err, &refusal) {
			t.Fatal(err)
		}
	}
	if refusal.Code != "53100" || !strings.Contains(refusal.Message, "No space left on device") {
		t.Errorf("a statement that needs room: %v", refusal)
	}
	if query(t, s, "select n::text from kept") != "1" {
		t.Error("the server has lost its data")
	}

	// A log that cannot grow: the server ends.
	over := make(chan error, 1)
	go func() { over <- s.Wait(t.Context()) }()
	var err error
	for waiting := true; waiting; {
		select {
		case err = <-over:
			waiting = false
		default:
			writeAhead(t, s.URL())
		}
	}
	refused(t, err, nil, "the embedded Postgres has ended", "the disk is full", "make room where "+dir+" is", "nothing that was committed is lost")
	stop(t, s)
	_, err = local.Start(t.Context(), local.Config{Dir: dir, BinDir: binDir(), Port: freePort(t), Offline: true})
	refused(t, err, nil, "the disk is full", "make room where "+dir+" is")

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s = start(t, local.Config{Dir: dir})
	if query(t, s, "select n::text from kept") != "1" {
		t.Error("what was committed is lost")
	}
}

// writeAhead makes the server begin another segment of its log, if it still can.
func writeAhead(t *testing.T, url string) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "select pg_switch_wal(); create temporary table t (); select txid_current()")
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && refusal.Code == "42501" {
		t.Fatal(err)
	}
}

func TestFullDiskAtFetch(t *testing.T) {
	t.Parallel()
	jar := jarOf(t, store(tarOf(t, tarFile("share/big", strings.Repeat("x", 3<<20)))))
	m := mirrorOf(t, 17, jar, nil)
	for size, at := range map[string]string{"2m": "archive.jar", "5m": "share/big"} {
		cfg := scripted(t, pgtest.Dir(t), m.url())
		cfg.CacheDir = filepath.Join(smallDisk(t, size), "cache")
		_, err := local.Start(t.Context(), cfg)
		refused(t, err, local.ErrNoBinaries, "the disk is full", cfg.CacheDir+" needs about", at+": no space left", "--database-url")
		if got := names(t, cfg.CacheDir); !slices.Equal(got, []string{"lock"}) {
			t.Errorf("the cache has %q", got)
		}
	}
}

// TestForeignDirectories: what another user has.
func TestForeignDirectories(t *testing.T) {
	if dir := os.Getenv("LOCAL_TEST_FOREIGN"); dir != "" {
		_, err := local.Start(t.Context(), local.Config{Dir: dir, BinDir: binDir(), Port: freePort(t), Offline: true})
		t.Fatal(err)
	}
	t.Parallel()
	made := func(mode os.FileMode, data bool) string {
		dir := filepath.Join(pgtest.Dir(t), "db")
		if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		if !data {
			if err := os.Remove(filepath.Join(dir, "data")); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
		return dir
	}
	unreadable, unwritable := made(0, true), made(0o555, false)
	refused(t, startAsOther(t, unreadable), nil, unreadable, "permission denied", "chown -R", "--data")
	refused(t, startAsOther(t, unwritable), nil, unwritable, "permission denied", "chown -R", "--data")
	if os.Getuid() != 0 {
		return // the rest takes two users
	}
	theirs := made(0o755, true)
	refused(t, startAsOther(t, theirs), nil, filepath.Join(theirs, "data")+" belongs to user root", "you are uid", "--data")
	_, err := local.Start(t.Context(), local.Config{Dir: theirs, BinDir: binDir(), Port: freePort(t), Offline: true})
	refused(t, err, nil, filepath.Join(theirs, "data")+" belongs to root", "does not run as root", "chown", "--data")
}

// startAsOther starts a server as a user who is not root.
func startAsOther(t *testing.T, dir string) error {
	t.Helper()
	if os.Getuid() != 0 {
		_, err := local.Start(t.Context(), local.Config{Dir: dir, BinDir: binDir(), Port: freePort(t), Offline: true})
		return err
	}
	program := filepath.Join(pgtest.Dir(t), "test")
	if out, err := exec.Command("cp", os.Args[0], program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(program, "-test.run=^TestForeignDirectories$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LOCAL_TEST_FOREIGN="+dir, "TMPDIR=/tmp")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "start Postgres in") {
		t.Fatalf("the other user's start: %v: %s", err, out)
	}
	return errors.New(string(out))
}

// smallDisk is a disk of that size, which only root can make.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root mounts a small disk")
	}
	dir := pgtest.Dir(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=755,size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount a small disk: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil { // whatever still runs there
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// fill leaves so many bytes of the disk that a file is to be on.
func fill(t *testing.T, file string, leave int) {
	t.Helper()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(file), &disk); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, int(disk.Bavail)*int(disk.Bsize)-leave), 0o600); err != nil {
		t.Fatal(err)
	}
}
