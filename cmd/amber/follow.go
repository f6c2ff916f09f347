package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/amberhost/amber/supabase/keys"
)

// follower watches a run until it ends. It survives the host: a run is in the
// database, and whichever host comes back knows it.
type follower struct {
	client   *client
	view     view
	poll     time.Duration // between two looks
	patience time.Duration // how long the host may be away

	treeless bool // the view shows no calls: the run's own row will do

	root *call
	lost time.Time // when the host stopped answering; zero while it answers
	logs *logTail
}

// stuckError says that a run will not end by itself.
type stuckError struct{ run, reason string }

func (e *stuckError) Error() string {
	advice := "It goes on when a host starts that can go on with it, or stuck_reason is cleared in task_runs and stack_runs."
	if strings.Contains(e.reason, keys.ErrUnknownKey.Error()) {
		advice = "It goes on there by itself. `" + invocation() + " keys list` says which keys the database needs."
	}
	return fmt.Sprintf("run %s is stuck: %s\n%s", e.run, printable(e.reason), advice)
}

const (
	pollEvery     = 150 * time.Millisecond
	hostPatience  = 60 * time.Second
	answerWithin  = 5 * time.Second  // for requests that do not wait
	resultWaits   = 30 * time.Second // for the one that does
	resultSurplus = 10 * time.Second // beyond what the host was asked to wait
)

func newFollower(c *client, v view) *follower {
	return &follower{client: c, view: v, poll: pollEvery, patience: hostPatience}
}

// follow shows the run until it ends and returns how it ended. The long poll
// for the result says when; looking at the tree in between is for the eye.
func (f *follower) follow(ctx context.Context, id string) (outcome, error) {
	f.root = &call{id: id, label: id, phase: queued}
	f.logs = newLogTail(f.client, id)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	ended := make(chan ending, 1)
	wg.Go(func() { ended <- f.await(ctx, id) })

	tick := time.NewTicker(f.poll)
	defer tick.Stop()
	for {
		if err := f.look(ctx, id); err != nil {
			return outcome{}, err
		}
		select {
		case <-ctx.Done():
			return outcome{}, ctx.Err()
		case e := <-ended:
			if e.err == nil {
				f.lastLook(ctx, id)
			}
			return e.outcome, e.err
		case <-tick.C:
		}
	}
}

type ending struct {
	outcome outcome
	err     error
}

// await asks for the result until there is one. Being without a host is look's business.
func (f *follower) await(ctx context.Context, id string) ending {
	for {
		o, err := f.result(ctx, id)
		switch {
		case err == nil && phaseOf(o.Status).over():
			return ending{outcome: o}
		case err != nil && !temporary(err):
			return ending{err: fmt.Errorf("wait for run %s: %w", id, err)}
		}
		select {
		case <-ctx.Done():
			return ending{err: ctx.Err()}
		case <-time.After(f.poll):
		}
	}
}

func (f *follower) result(ctx context.Context, id string) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, resultWaits+resultSurplus)
	defer cancel()
	return f.client.result(ctx, id, resultWaits)
}

// look fetches the tree and the logs and shows them. It fails when the host
// has been away for too long, and when the run is stuck.
func (f *follower) look(ctx context.Context, id string) error {
	logs, err := f.fetch(ctx, id)
	now := time.Now()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		f.lost = time.Time{}
		f.view.show(scene{root: f.root, logs: logs, now: now})
		if f.root.stuck != "" && !f.root.phase.over() {
			return &stuckError{run: id, reason: f.root.stuck}
		}
		return nil
	case !temporary(err):
		return fmt.Errorf("look at run %s: %w", id, err)
	}
	if f.lost.IsZero() {
		f.lost = now
	}
	away := now.Sub(f.lost)
	f.view.show(scene{root: f.root, now: now, lost: max(away, 1)})
	if away > f.patience {
		return fmt.Errorf("run %s: the host has been away for %s: %w", id, span(away), err)
	}
	return nil
}

// lastLook shows a run that has ended. Its outcome is known: a host that went
// away since takes nothing from it.
func (f *follower) lastLook(ctx context.Context, id string) {
	logs, _ := f.fetch(ctx, id)
	f.view.show(scene{root: f.root, logs: logs, now: time.Now()})
}

// fetch renews the tree and returns the log lines that are new.
func (f *follower) fetch(ctx context.Context, id string) ([]logLine, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	tree := f.client.tree
	if f.treeless {
		tree = f.client.row
	}
	latest, err := tree(ctx, id)
	if err != nil {
		return nil, err
	}
	f.root = callTree(latest)
	news, err := f.logs.next(ctx)
	for i := range news {
		news[i].nested = news[i].TaskRun != latest.Run.ID
	}
	return news, err
}
