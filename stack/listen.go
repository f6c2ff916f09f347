package stack

import (
	"context"
	"time"
)

// listen turns the notifications of the tables' triggers (see migrations) into
// hints for the sweep. Its connection may come and go: nothing depends on it.
func (p *Processor) listen(ctx context.Context) {
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		connected, err := p.cfg.Store.listen(ctx, p.nudge)
		if ctx.Err() != nil {
			return
		}
		p.cfg.Log.Warn("listen for wakes", "err", err)
		if connected {
			wait = 100 * time.Millisecond
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// listen calls wake once it listens, and at each notification, until the
// connection or ctx ends. It reports whether it came to listen.
func (s *Store) listen(ctx context.Context, wake func()) (connected bool, err error) {
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	conn := pooled.Hijack() // a listening connection does not go back to the pool
	defer func() {
		closing, cancel := mustLand(ctx)
		defer cancel()
		_ = conn.Close(closing) // it has failed or is of no more use
	}()
	if _, err := conn.Exec(ctx, `/* listen */ listen amber_wake`); err != nil {
		return false, err
	}
	wake()
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return true, err
		}
		wake()
	}
}
