package host_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/host"
)

// TestSlowClients: hundreds of connections that give or take next to nothing
// are closed in time, and do not keep others from being served.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	const each = 60
	gaveUp := make(chan error, each)
	huge := bytes.Repeat([]byte("x"), 32<<20)
	limits := host.Limits{HeaderTime: time.Second, BodyTime: time.Second, WriteTime: time.Second, IdleTime: time.Second}
	address := gate(t, host.Config{Limits: limits},
		function("see", sees),
		function("huge", func(w http.ResponseWriter, _ *http.Request) {
			_, err := w.Write(huge)
			gaveUp <- err
		}))
	const headers = " HTTP/1.1\r\nHost: localhost\r\n"
	var slow sync.WaitGroup
	for _, kind := range []struct {
		name, first, drip string
		answer            string // the first line of what such a client reads
	}{
		{"says nothing", "", "", ""},
		{"drips a header", "GET /functions/v1/see" + headers + "A: ", "X", ""},
		{"drips headers", "GET /functions/v1/see" + headers, "X: y\r\n", ""},
		{"drips a body", "POST /functions/v1/see" + headers + "Content-Length: 100000\r\n\r\n", "x", "HTTP/1.1 408"},
		{"drips chunks", "POST /functions/v1/see" + headers + "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", "HTTP/1.1 408"},
		{"drips a compressed body", "POST /functions/v1/see" + headers + "Content-Encoding: gzip\r\nContent-Length: 100000\r\n\r\n\x1f\x8b\x08\x08", "x", "HTTP/1.1 408"}, // in a file name without an end
		{"comes back no more", "GET /functions/v1/see" + headers + "\r\n", "", "HTTP/1.1 200"},
		{"comes back with empty lines", "GET /functions/v1/see" + headers + "\r\n", "\r\n", "HTTP/1.1 200"},
	} {
		for range each {
			slow.Go(func() {
				if got := drip(t, address, kind.first, kind.drip); !strings.HasPrefix(got, kind.answer) || kind.answer == "" && got != "" {
					t.Errorf("a client that %s reads %.80q, want %q", kind.name, got, kind.answer)
				}
			})
		}
	}
	for range each {
		conn := dial(t, address)
		if _, err := io.WriteString(conn, "POST /functions/v1/huge"+headers+"\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan struct{})
	go func() {
		slow.Wait()
		for range each { // clients that do not read
			if err := <-gaveUp; err == nil {
				t.Error("an answer that nobody read was written")
			}
		}
		close(closed)
	}()
	served := 0
	for done := false; !done; served++ {
		if a := call(t, address, "POST", "/functions/v1/see", strings.NewReader("x")); a.status != 200 {
			t.Errorf("meanwhile: %d %s", a.status, a.body)
		}
		select {
		case <-closed:
			done = true
		default:
		}
	}
	t.Logf("%d others were served meanwhile", served)
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// drip sends the same bytes again and again until the server closes the
// connection, and returns what it has answered.
func drip(t *testing.T, address, first, more string) string {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Error(err)
	}
	ended := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		_, _ = io.WriteString(conn, first)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := io.WriteString(conn, more); err != nil {
					return
				}
			case <-ended:
				return
			}
		}
	})
	got, err := io.ReadAll(conn) // a reset is an end, too
	close(ended)
	sender.Wait()
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%.60q and dripping %q keeps a connection", first, more)
	}
	return string(got)
}

// TestPatientClients: who waits for longer than any limit, or reads slowly, is served.
func TestPatientClients(t *testing.T) {
	t.Parallel()
	const size, part = 24 << 20, 1 << 20
	limits := host.Limits{HeaderTime: time.Second, BodyTime: time.Second, WriteTime: time.Second, IdleTime: time.Second}
	address := gate(t, host.Config{Limits: limits},
		function("late", func(w http.ResponseWriter, r *http.Request) {
			if _, err := wire.ReadObject(r); err != nil {
				t.Error(err)
			}
			select {
			case <-time.After(2500 * time.Millisecond): // as one that waits for a run does
				fmt.Fprint(w, "late")
			case <-r.Context().Done():
				t.Errorf("the request was ended: %v", r.Context().Err())
			}
		}),
		function("huge", func(w http.ResponseWriter, _ *http.Request) {
			if _, err := w.Write(bytes.Repeat([]byte("x"), size)); err != nil {
				t.Errorf("write to a slow reader: %v", err)
			}
		}))
	t.Run("waits", func(t *testing.T) {
		t.Parallel()
		if a := call(t, address, "POST", "/functions/v1/late", strings.NewReader("{}")); a.body != "late" {
			t.Errorf("%d %q", a.status, a.body)
		}
	})
	t.Run("reads slowly", func(t *testing.T) {
		t.Parallel()
		request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+"/functions/v1/huge", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept-Encoding", "identity")
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for read := 0; read < size; read += part {
			<-tick.C
			if _, err := io.CopyN(io.Discard, response.Body, part); err != nil {
				t.Fatalf("after %d bytes: %v", read, err)
			}
		}
	})
}
