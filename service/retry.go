package service

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Policy says how often a call that failed is made again, and when. Its zero value
// makes none again.
type Policy struct {
	Retries int           // at most so many more tries
	First   time.Duration // the wait before the first of them
	Factor  float64       // how much longer each wait is than the one before it; less than 1 means 1
	Most    time.Duration // the longest wait, unless the service asks for a longer one; 0 means First
}

// DefaultPolicy is that of services that have none of their own.
var DefaultPolicy = Policy{Retries: 3, First: 500 * time.Millisecond, Factor: 2, Most: 30 * time.Second}

// Wait is how long to wait before retry n, which counts from 1, without the jitter
// that whoever waits adds.
func (p Policy) Wait(n int) time.Duration {
	wait, most := float64(p.First), float64(max(p.Most, p.First))
	for ; n > 1 && wait < most; n-- {
		wait *= max(p.Factor, 1)
	}
	return time.Duration(min(wait, most))
}

// Retrier is implemented by services that have a policy of their own.
type Retrier interface {
	// Policy is that of one call, unless the task gives another.
	Policy(call Call) Policy
}

// Retryable reports whether a call that failed with err may be made again, and
// how long the service wants it to wait: 0 leaves that to the policy.
//
// What is tried again is what may pass by itself: the network's errors, and an
// [*Error] with status 429 or 5xx. Nothing else is: no other status, no error
// without one, nothing that wraps [ErrNonRetryable], and not what ctx's end made
// of it, which is its owner's to judge.
func Retryable(err error) (after time.Duration, ok bool) {
	var e *Error
	switch {
	case err == nil, errors.Is(err, ErrNonRetryable), errors.Is(err, context.Canceled):
		return 0, false
	case errors.As(err, &e):
		return e.RetryAfter, e.Status == http.StatusTooManyRequests || e.Status >= 500
	}
	return 0, passes(err)
}

// ErrNonRetryable marks an error after which a call is not made again, whatever
// else it is: wrap it. In JavaScript it is the class NonRetryableError.
var ErrNonRetryable = errors.New("not to be tried again")

// passes reports whether err is one of the network.
func passes(err error) bool {
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return true
	}
	for _, number := range []syscall.Errno{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}
