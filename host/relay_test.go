package host_test

import (
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// relay is a way to a database that a test closes and opens: a Postgres that is
// there, or away.
type relay struct {
	t        *testing.T
	target   string
	address  string
	listener net.Listener // nil while the way is closed

	mu    sync.Mutex
	conns map[net.Conn]bool
	work  sync.WaitGroup
}

// newRelay returns a closed relay to the database, and the database's URL through it.
func newRelay(t *testing.T, database string) (*relay, string) {
	t.Helper()
	config, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // reserves the port
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, address: l.Addr().String(), conns: map[net.Conn]bool{}}
	r.target = net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	l.Close()
	t.Cleanup(r.close)
	u.Host, u.RawQuery = r.address, ""
	return r, u.String()
}

// open lets connections through.
func (r *relay) open() {
	r.t.Helper()
	l, err := net.Listen("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.listener = l
	r.work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.work.Go(func() { r.join(conn) })
		}
	})
}

// close cuts every connection, and refuses new ones.
func (r *relay) close() {
	if r.listener == nil {
		return
	}
	r.listener.Close()
	r.listener = nil
	r.mu.Lock()
	for conn := range r.conns {
		conn.Close()
	}
	r.mu.Unlock()
	r.work.Wait()
}

func (r *relay) join(conn net.Conn) {
	defer conn.Close()
	other, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer other.Close()
	r.mu.Lock()
	r.conns[conn], r.conns[other] = true, true
	r.mu.Unlock()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{conn, other}, {other, conn}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			pair[0].Close()
			pair[1].Close()
			done <- struct{}{}
		}()
	}
	<-done
	<-done
	r.mu.Lock()
	delete(r.conns, conn)
	delete(r.conns, other)
	r.mu.Unlock()
}
