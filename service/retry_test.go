package service_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/amberhost/amber/service"
)

func TestRetryable(t *testing.T) {
	t.Parallel()
	status := func(n int) error { return &service.Error{Message: "no", Status: n} }
	for _, c := range []struct {
		err   error
		after time.Duration
		want  bool
	}{
		{nil, 0, false},
		{errors.New("no"), 0, false},
		{service.Errorf("BROKE", "no"), 0, false},
		{status(400), 0, false}, {status(404), 0, false}, {status(408), 0, false}, {status(409), 0, false}, {status(422), 0, false},
		{status(429), 0, true}, {status(500), 0, true}, {status(503), 0, true},
		{&service.Error{Message: "no", Status: 429, RetryAfter: time.Minute}, time.Minute, true},
		{fmt.Errorf("ask: %w", status(502)), 0, true},
		{fmt.Errorf("%w: %w", service.ErrNonRetryable, status(503)), 0, false},
		{fmt.Errorf("ask: %w", io.ErrUnexpectedEOF), 0, true},
		{&url.Error{Op: "Get", URL: "http://x", Err: syscall.ECONNREFUSED}, 0, true},
		{&net.DNSError{Err: "no such host"}, 0, true},
		{context.DeadlineExceeded, 0, true}, // of a client's own time limit
		{context.Canceled, 0, false},
		{&url.Error{Op: "Get", URL: "http://x", Err: context.Canceled}, 0, false},
	} {
		if after, got := service.Retryable(c.err); got != c.want || after != c.after {
			t.Errorf("Retryable(%v) = %v, %v, want %v, %v", c.err, after, got, c.after, c.want)
		}
	}
}

func TestPolicyWait(t *testing.T) {
	t.Parallel()
	p := service.Policy{Retries: 9, First: time.Second, Factor: 2, Most: 5 * time.Second}
	for n, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 5 * time.Second, 9: 5 * time.Second} {
		if got := p.Wait(n); got != want {
			t.Errorf("wait before retry %d is %v, want %v", n, got, want)
		}
	}
	if got := (service.Policy{First: time.Second}).Wait(7); got != time.Second {
		t.Errorf("without a factor %v", got)
	}
}
