package host_test

import (
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/host"
)

// TestManyWaiters: hundreds of clients that wait for runs share the host's few
// connections to the database, and are all answered. AMBER_LONG=1 has 1,000 of them.
func TestManyWaiters(t *testing.T) {
	t.Parallel()
	clients := 200
	if os.Getenv("AMBER_LONG") != "" {
		clients = 1000
	}
	r := start(t, func(c *host.Config) { c.TasksDir = tasksDir(t, wireTasks) })
	r.client.Transport.(*http.Transport).MaxIdleConnsPerHost = clients
	conn, err := pgx.Connect(t.Context(), r.info.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	ids := make([]string, 10)
	for i := range ids {
		ids[i] = r.do(t, "POST", execute, `{"taskName":"sleep","input":4000}`).text(t, "taskRunId")
	}
	before, began := transactions(t, conn), time.Now()
	var waiters sync.WaitGroup
	for i := range clients {
		waiters.Go(func() {
			a := r.do(t, "GET", "/functions/v1/tasks/result/"+ids[i%len(ids)], "", "Prefer: wait=60")
			if a.status != 200 || a.text(t, "status") != "completed" {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	most, ended := 0, make(chan struct{})
	go func() {
		waiters.Wait()
		close(ended)
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-tick.C:
			most = max(most, connections(t, conn))
		case <-ended:
			waiting = false
		}
	}
	took, count := time.Since(began), transactions(t, conn)-before
	t.Logf("%d clients: %d connections to the database, %d transactions in %v", clients, most, count, took)
	// Coming and going costs a client four or five, and the host and this test make
	// some all the time; looking each for itself would cost a client ten more.
	if allowed := 7*clients + int(60*took.Seconds()); count > allowed {
		t.Errorf("%d clients that waited %v made %d transactions, more than %d", clients, took, count, allowed)
	}
	if most > max(16, runtime.NumCPU())+10 { // the pool's, and a few beside it
		t.Errorf("%d clients took %d connections to the database", clients, most)
	}
}

// connections counts those that others have to the same database.
func connections(t *testing.T, conn *pgx.Conn) (n int) {
	t.Helper()
	const query = `select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func transactions(t *testing.T, conn *pgx.Conn) (n int) {
	t.Helper()
	const query = `select xact_commit from pg_stat_database where datname = current_database()`
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
