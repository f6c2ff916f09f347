package pgtest_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/jackc/pgx/v5"
)

// TestBouncerPools: two connections share one session of a transaction pooler,
// and have one each of a session pooler.
func TestBouncerPools(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewEmpty(t)
	for pooling, sessions := range map[pgtest.Pooling]int{pgtest.PoolTransactions: 1, pgtest.PoolSessions: 2} {
		through := pgtest.Bouncer(t, dsn, pooling, sessions)
		seen := map[int]bool{}
		for range 2 {
			var pid int
			if err := connect(t, through).QueryRow(t.Context(), "select pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid); err != nil {
				t.Fatalf("%s: %v", pooling, err)
			}
			seen[pid] = true
		}
		if len(seen) != sessions {
			t.Errorf("%s: %d sessions, want %d", pooling, len(seen), sessions)
		}
	}
}

// TestBouncerGoesWithAKilledProcess kills a test process in mid-test.
func TestBouncerGoesWithAKilledProcess(t *testing.T) {
	if dsn := os.Getenv("PGTEST_BOUNCE"); dsn != "" {
		fmt.Println("through", pgtest.Bouncer(t, dsn, pgtest.PoolSessions, 1))
		select {} // until killed
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBouncerGoesWithAKilledProcess$")
	cmd.Env = append(os.Environ(), "PGTEST_BOUNCE="+pgtest.NewEmpty(t))
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
	through, ok := strings.CutPrefix(strings.TrimSpace(line), "through ")
	if err != nil || !ok {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ; ; <-time.After(10 * time.Millisecond) {
		conn, err := pgx.Connect(ctx, through)
		if err != nil && ctx.Err() == nil {
			return
		}
		if err != nil {
			t.Fatal("the pooler is still there")
		}
		_ = conn.Close(ctx)
	}
}
