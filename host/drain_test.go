package host_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/pgtest"
)

// holdKeystore makes calls of the keystore wait until release.
func holdKeystore(t *testing.T, database string) (release func()) {
	t.Helper()
	return hold(t, database, "public.keystore in access exclusive mode")
}

// hold holds a lock on a table until release.
func hold(t *testing.T, database, lock string) (release func()) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	release = func() { conn.Close(ctx) }
	t.Cleanup(release)
	if _, err := conn.Exec(ctx, "begin; lock table "+lock); err != nil {
		t.Fatal(err)
	}
	return release
}

// awaitHeld waits until a call waits for [holdKeystore].
func awaitHeld(t *testing.T, database string) {
	t.Helper()
	awaitLock(t, database, "public.keystore")
}

// awaitLock waits until somebody waits for a lock on a table.
func awaitLock(t *testing.T, database, table string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for held := false; !held; {
		err := conn.QueryRow(ctx, `select count(*) > 0 from pg_locks, pg_sleep(0.01) where relation = $1::text::regclass and not granted`, table).Scan(&held)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// line is a client's connection to a host, as bytes. Go's own client hides what
// it says about connections.
type line struct {
	net.Conn
	answers *bufio.Reader
}

// dialHost opens a line that stays until its test ends.
func dialHost(t *testing.T, r *running) *line {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.info.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &line{conn, bufio.NewReader(conn)}
}

// send sends a request's head, which has no body unless headers say so.
func (l *line) send(t *testing.T, method, path string, headers ...string) {
	t.Helper()
	head := strings.Join(append([]string{method + " " + path + " HTTP/1.1", "Host: 127.0.0.1", service}, headers...), "\r\n")
	if _, err := l.Write([]byte(head + "\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
}

// read reads an answer, and whether it is the connection's last.
func (l *line) read(t *testing.T) (a answer, last bool) {
	t.Helper()
	response, err := http.ReadResponse(l.answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.Close {
		if more, err := l.answers.ReadByte(); err != io.EOF {
			t.Errorf("after the last answer: %q, %v", more, err)
		}
	}
	return answer{response.StatusCode, response.Header, string(body)}, response.Close
}

// TestDrain: while a call is waited for, probes see that the host drains,
// requests under way end, and new ones are sent elsewhere.
func TestDrain(t *testing.T) {
	t.Parallel()
	c := ofServe(t, pgtest.New(t), "AMBER_DRAIN", "10m")
	r := serve(t, c)
	r.awaitBegun(t)
	release := holdKeystore(t, c.DatabaseURL)
	early, kept := dialHost(t, r), dialHost(t, r)
	body := `{"taskName":"keys","input":"k"}`
	early.send(t, "POST", execute, "Prefer: wait=300", "Content-Length: "+strconv.Itoa(len(body)))
	if _, err := early.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	awaitHeld(t, c.DatabaseURL)
	kept.send(t, "GET", "/health")
	if a, last := kept.read(t); a.status != 200 || last {
		t.Fatalf("before the drain: %+v, last: %v", a, last)
	}

	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	ask := func(method, path string) answer {
		t.Helper()
		l := dialHost(t, r)
		l.send(t, method, path)
		a, last := l.read(t)
		if !last {
			t.Errorf("%s %s: the connection stays: %+v", method, path, a)
		}
		return a
	}
	probe := func(when string) {
		t.Helper()
		r.awaitReady(t, "draining")
		if a := ask("GET", "/ready"); a.status != 503 || a.header.Get("Retry-After") == "" || a.text(t, "database") != "ok" || a.text(t, "processor") != "draining" {
			t.Errorf("ready, %s: %+v", when, a)
		}
		if a := ask("GET", "/health"); a.status != 200 || a.text(t, "status")+a.text(t, "database") != "okok" {
			t.Errorf("health, %s: %+v", when, a)
		}
		for method, path := range map[string]string{"POST": execute, "GET": "/"} {
			if a := ask(method, path); a.status != 503 || a.text(t, "code") != "DRAINING" || a.text(t, "error") == "" || a.header.Get("Retry-After") != "1" {
				t.Errorf("%s %s, %s: %+v", method, path, when, a)
			}
		}
	}
	probe("at first")
	kept.send(t, "GET", "/functions/v1/tasks/list")
	if a, last := kept.read(t); a.status != 503 || !last {
		t.Errorf("on a connection that was kept: %+v, last: %v", a, last)
	}
	if a, last := early.read(t); a.status != 202 || !last { // told to answer early
		t.Errorf("the request under way: %+v, last: %v", a, last)
	}
	probe("with nothing under way but the call")
	select {
	case err := <-stopped:
		t.Fatalf("the host did not wait for the call: %v", err)
	default:
	}
	release()
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(r.info.URL, "http://")); err == nil {
		t.Error("the port is open after the end")
	}
}

// TestDrainNotice: before the drain /ready says so for a while, and takes none of
// the drain's time. What happens meanwhile is a test of cmd/amber.
func TestDrainNotice(t *testing.T) {
	t.Parallel()
	c := ofServe(t, pgtest.New(t), "AMBER_DRAIN", "1s", "AMBER_DRAIN_NOTICE", "2s")
	r := serve(t, c)
	r.awaitBegun(t)
	release := holdKeystore(t, c.DatabaseURL)
	if a := r.do(t, "POST", execute, `{"taskName":"keys","input":"k"}`, service); a.status != 202 {
		t.Fatalf("execute: %d %s", a.status, a.body)
	}
	awaitHeld(t, c.DatabaseURL) // so that the drain takes as long as it may
	began, stopped := time.Now(), make(chan error, 1)
	go func() { stopped <- r.stop() }()
	r.lines.await(t, "the drain begins soon", "in=2s")
	r.awaitReady(t, "draining")
	if err := <-stopped; err != nil || time.Since(began) < 2500*time.Millisecond { // of the drain, calls have the most
		t.Errorf("Run: %v after %v", err, time.Since(began))
	}
	release()
}

// TestNoNotice: a host that was not ready yet has nobody to give notice to.
func TestNoNotice(t *testing.T) {
	t.Parallel()
	c := ofServe(t, pgtest.New(t), "AMBER_DRAIN_NOTICE", "1h")
	release := hold(t, c.DatabaseURL, "amber.hosts in exclusive mode")
	r := serve(t, c)
	awaitLock(t, c.DatabaseURL, "amber.hosts") // all is there but for its row
	r.awaitReady(t, "starting")
	if err := r.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	release()
}

// TestDrainEnds: neither a call that does not end, nor a request that is never
// sent to its end, nor clients that go on asking keep a host longer than its drain.
func TestDrainEnds(t *testing.T) {
	t.Parallel()
	c := ofServe(t, pgtest.New(t), "AMBER_DRAIN", "1s")
	r := serve(t, c)
	r.awaitBegun(t)
	release := holdKeystore(t, c.DatabaseURL)
	if a := r.do(t, "POST", execute, `{"taskName":"keys","input":"k"}`, service); a.status != 202 {
		t.Fatalf("execute: %d %s", a.status, a.body)
	}
	awaitHeld(t, c.DatabaseURL)
	half := dialHost(t, r)
	half.send(t, "POST", execute, "Content-Length: 99", "Expect: 100-continue")
	if a, _ := half.read(t); a.status != 100 {
		t.Fatalf("a request to wait for: %+v", a)
	}
	dialHost(t, r) // which sends nothing at all

	over, asked := make(chan struct{}), make(chan int)
	go func() {
		refused := 0
		for {
			select {
			case <-over:
				asked <- refused
				return
			default:
			}
			request, err := http.NewRequestWithContext(t.Context(), "GET", r.info.URL+"/functions/v1/tasks/list", nil)
			if err != nil {
				continue
			}
			if response, err := r.client.Do(request); err == nil {
				if response.StatusCode == 503 {
					refused++
				}
				response.Body.Close()
			}
		}
	}()
	if err := r.stop(); err != nil { // the call is held until it has returned
		t.Errorf("Run: %v", err)
	}
	close(over)
	if refused := <-asked; refused == 0 {
		t.Error("nobody was turned away")
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(r.info.URL, "http://")); err == nil {
		t.Error("the port is open after the end")
	}
	release()
}
