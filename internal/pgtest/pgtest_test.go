package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/jackc/pgx/v5"
)

func TestNewIsMigratedAndAlone(t *testing.T) {
	t.Parallel()
	one, two := connect(t, pgtest.New(t)), connect(t, pgtest.New(t))
	ctx := t.Context()
	if _, err := one.Exec(ctx, "create table mine ()"); err != nil {
		t.Fatal(err)
	}
	for table, conn := range map[string]*pgx.Conn{"public.task_runs": two, "amber.migrations": two, "mine": one} {
		if !has(t, conn, table) {
			t.Errorf("%s is not there", table)
		}
	}
	if has(t, two, "mine") {
		t.Error("two tests share a database")
	}
}

func TestNewEmptyIsEmpty(t *testing.T) {
	t.Parallel()
	if has(t, connect(t, pgtest.NewEmpty(t)), "public.task_runs") {
		t.Error("an empty database has tables")
	}
}

func TestDatabaseGoesWithItsTest(t *testing.T) {
	t.Parallel()
	var dsn string
	t.Run("inner", func(t *testing.T) { dsn = pgtest.NewEmpty(t) })
	conn, err := pgx.Connect(t.Context(), dsn)
	if err == nil {
		conn.Close(t.Context())
		t.Fatal("the database outlived its test")
	}
	if !strings.Contains(err.Error(), "does not exist") {
		t.Fatal(err)
	}
}

// TestServerGoesWithAKilledProcess kills a test process in mid-test.
func TestServerGoesWithAKilledProcess(t *testing.T) {
	if os.Getenv("AMBER_TEST_DATABASE_URL") != "" {
		t.Skip("the server is not ours")
	}
	if os.Getenv("PGTEST_HOLD") != "" {
		var data string
		conn := connect(t, pgtest.NewEmpty(t))
		if err := conn.QueryRow(t.Context(), "select current_setting('data_directory')").Scan(&data); err != nil {
			t.Fatal(err)
		}
		fmt.Println("data", data)
		select {} // until killed
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerGoesWithAKilledProcess$")
	cmd.Env = append(os.Environ(), "PGTEST_HOLD=1")
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
	data, ok := strings.CutPrefix(strings.TrimSpace(line), "data ")
	if err != nil || !ok {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ; ; <-time.After(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Dir(data)); errors.Is(err, fs.ErrNotExist) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s is still there", filepath.Dir(data))
		}
	}
}

func BenchmarkNew(b *testing.B) {
	pgtest.New(b)
	for b.Loop() {
		pgtest.New(b)
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func has(t *testing.T, conn *pgx.Conn, table string) bool {
	t.Helper()
	var there bool
	if err := conn.QueryRow(t.Context(), "select to_regclass($1) is not null", table).Scan(&there); err != nil {
		t.Fatal(err)
	}
	return there
}
