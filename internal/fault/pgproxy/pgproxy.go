// Package pgproxy stands between a client and a Postgres and spoils the
// connection: it cuts it, at commits too, or falls silent.
package pgproxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy forwards connections from a loopback address to a Postgres. Its methods
// are safe for concurrent use. Clients must not use TLS.
type Proxy struct {
	listener net.Listener
	work     sync.WaitGroup

	mu       sync.Mutex
	upstream string
	conns    map[*link]struct{}
	silent   chan struct{} // closed when silence ends; nil: there is none
	closed   bool

	cutBefore, cutAfter atomic.Int64 // commits that are still to be spoiled
	cuts                atomic.Int64 // connections that were cut at a commit
}

// link is one client's connection and its server's.
type link struct{ client, server net.Conn }

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// New starts a proxy in front of the Postgres at host:port.
func New(upstream string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("pgproxy: %w", err)
	}
	p := &Proxy{listener: l, upstream: upstream, conns: map[*link]struct{}{}}
	p.work.Go(p.accept)
	return p, nil
}

// URL is a Postgres URL that leads through the proxy to where it led before.
func (p *Proxy) URL(database string) (string, error) {
	u, err := url.Parse(database)
	if err != nil {
		return "", fmt.Errorf("pgproxy: %w", err)
	}
	u.Host = p.listener.Addr().String()
	q := u.Query()
	q.Set("sslmode", "disable")
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Close ends all connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Speak()
	p.Cut()
	p.work.Wait()
}

// Move has new connections lead to the Postgres at host:port, and cuts the others.
func (p *Proxy) Move(upstream string) {
	p.mu.Lock()
	p.upstream = upstream
	p.mu.Unlock()
	p.Cut()
}

// Cut cuts all connections that there are and returns how many.
func (p *Proxy) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.conns)
	for l := range p.conns {
		l.close()
	}
	return n
}

// CutAtCommits cuts the connections of the next commits: so many before the
// server has heard of the commit, then so many after it has answered, without the
// answer.
func (p *Proxy) CutAtCommits(before, after int) {
	p.cutBefore.Store(int64(before))
	p.cutAfter.Store(int64(after))
}

// Cuts is how many connections were cut at a commit.
func (p *Proxy) Cuts() int { return int(p.cuts.Load()) }

// Silence lets nothing through until Speak is called. Connections stay open.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent == nil && !p.closed {
		p.silent = make(chan struct{})
	}
}

// Speak ends Silence.
func (p *Proxy) Speak() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent != nil {
		close(p.silent)
		p.silent = nil
	}
}

func (p *Proxy) hold() {
	p.mu.Lock()
	silent := p.silent
	p.mu.Unlock()
	if silent != nil {
		<-silent
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	p.hold()
	p.mu.Lock()
	upstream := p.upstream
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", upstream)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{client, server}
	p.mu.Lock()
	closed := p.closed
	p.conns[l] = struct{}{}
	p.mu.Unlock()
	defer func() {
		l.close()
		p.mu.Lock()
		delete(p.conns, l)
		p.mu.Unlock()
	}()
	if closed {
		return
	}
	var swallow atomic.Bool
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		defer l.close()
		p.toClient(l, &swallow)
	}()
	if err := p.toServer(l, &swallow); err != nil {
		l.close()
	}
	<-answers
}

// toClient forwards what the server says, or, when that is to be swallowed, cuts
// the connection in its place.
func (p *Proxy) toClient(l *link, swallow *atomic.Bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := l.server.Read(buf)
		if err != nil || swallow.Load() {
			return
		}
		p.hold()
		if _, err := l.client.Write(buf[:n]); err != nil {
			return
		}
	}
}

var errCut = errors.New("cut")

// toServer forwards what the client says, message by message.
func (p *Proxy) toServer(l *link, swallow *atomic.Bool) error {
	r := bufio.NewReaderSize(l.client, 64<<10)
	if err := p.forward(l, r, 0); err != nil { // the startup message has no type
		return err
	}
	for {
		head, err := r.Peek(5)
		if err != nil {
			return err
		}
		if head[0] == 'Q' && binary.BigEndian.Uint32(head[1:]) == 4+uint32(len(commit)) {
			message, err := r.Peek(5 + len(commit))
			if err != nil {
				return err
			}
			if string(message[5:]) == commit {
				switch {
				case take(&p.cutBefore):
					p.cuts.Add(1)
					return errCut
				case take(&p.cutAfter):
					p.cuts.Add(1)
					swallow.Store(true)
				}
			}
		}
		if err := p.forward(l, r, 1); err != nil {
			return err
		}
	}
}

const commit = "commit\x00"

func take(n *atomic.Int64) bool {
	for {
		left := n.Load()
		if left <= 0 {
			return false
		}
		if n.CompareAndSwap(left, left-1) {
			return true
		}
	}
}

// forward forwards one message, whose length follows kind bytes.
func (p *Proxy) forward(l *link, r *bufio.Reader, kind int) error {
	head, err := r.Peek(kind + 4)
	if err != nil {
		return err
	}
	n := int64(kind) + int64(binary.BigEndian.Uint32(head[kind:]))
	p.hold()
	_, err = io.CopyN(l.server, r, n)
	return err
}
