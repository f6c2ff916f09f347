package host_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/internal/pgtest"
)

// TestPoolers serves an empty database in each way that there is to one: it is
// found out, migrated through and worked with.
func TestPoolers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		pooling pgtest.Pooling
		servers int    // of the pooler
		more    string // parameters
		told    string // the setting pooler
		want    host.Pooler
	}{
		{"none", "", 0, "", "auto", host.PoolerDirect},
		{"session", pgtest.PoolSessions, 40, "", "auto", host.PoolerSession},
		{"transaction", pgtest.PoolTransactions, 3, "", "auto", host.PoolerTransaction},
		{"one server for all", pgtest.PoolTransactions, 1, "", "auto", host.PoolerTransaction},
		{"as Prisma says", pgtest.PoolTransactions, 3, "&pgbouncer=true&connection_limit=1", "auto", host.PoolerTransaction},
		{"told", "", 0, "", "transaction", host.PoolerTransaction},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.NewEmpty(t)
			direct := database
			if test.pooling != "" {
				database = pgtest.Bouncer(t, database, test.pooling, test.servers)
			}
			r := serve(t, ofServe(t, database+test.more, "AMBER_POOLER", test.told, "AMBER_POOL_SIZE", "8"))
			r.awaitBegun(t)
			if r.info.Pooler != test.want {
				t.Errorf("found %s, want %s", r.info.Pooler, test.want)
			}
			var wg sync.WaitGroup
			for n := range 12 {
				wg.Go(func() {
					if got := r.result(t, `{"taskName":"nest","input":{"a":[1,"x"]}}`); compact(t, got) != `{"a":[1,"x"]}` {
						t.Errorf("nest: %s", got)
					}
					if got := r.result(t, fmt.Sprintf(`{"taskName":"keys","input":"k%d"}`, n)); got != `"v"` {
						t.Errorf("keys: %s", got)
					}
				})
			}
			wg.Wait()
			if n := listening(t, direct); test.pooling == "" && (n > 0) != (test.want == host.PoolerDirect) {
				t.Errorf("%d connections listen", n)
			}
			if a := r.awaitReady(t, "ready"); a.status != 200 {
				t.Errorf("ready: %s", a.body)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			for line := range strings.Lines(r.lines.rest()) {
				if strings.Contains(line, "level=WARN") && !strings.Contains(line, "local Supabase") || strings.Contains(line, "level=ERROR") {
					t.Error(line)
				}
			}
		})
	}
}

// listening counts the connections that wait for wakes; of a pooler's one does not see it.
func listening(t *testing.T, database string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := conn.QueryRow(t.Context(), `select count(*) from pg_stat_activity where datname = current_database() and query ~* '[*]/ listen'`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
