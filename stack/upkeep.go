package stack

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// renew keeps the lease and what goes with it, and gives back what this host holds
// by mistake: nothing that may take as long as the lease does. A host that has lost
// its lease (it was stopped, or cut off) drops what it had and goes on as a new
// incarnation.
func (p *Processor) renew(lease context.Context) {
	ctx, cutOff := outlive(lease, queryGrace)
	defer cutOff()
	for {
		select {
		case <-lease.Done():
			return
		case <-time.After(p.cfg.Lease / 3):
		}
		err := p.cfg.Store.Renew(ctx, p.currentHost(), p.cfg.Lease)
		if errors.Is(err, ErrClaimLost) && p.draining() {
			return // nothing is held any more
		}
		if errors.Is(err, ErrClaimLost) {
			p.cfg.Log.Warn("lease lost: going on as a new host", "host", p.currentHost().ID)
			p.observe(Event{Kind: EventLeaseLost})
			p.mu.Lock()
			clear(p.frames)
			p.mu.Unlock()
			err = p.register(ctx, false)
		}
		if err == nil {
			err = p.saveImage(ctx) // somebody may have restored a database that lacks it
		}
		if err == nil {
			err = p.cfg.Store.NoteKey(ctx) // a Reseal elsewhere may have forgotten it
		}
		if err == nil {
			var given int
			given, err = p.cfg.Store.GiveBack(ctx, p.currentHost(), p.known(), p.cfg.Lease/3)
			if given > 0 {
				p.cfg.Log.Warn("gave back rows that this host held without knowing", "rows", given)
			}
		}
		if err == nil {
			err = p.stopEnded(ctx)
		}
		if err != nil && lease.Err() == nil {
			p.cfg.Log.Warn("renew lease", "err", err)
		}
	}
}

// upkeep parks what no host can go on with, as often as the lease is renewed, and
// tidies up, until ctx ends.
func (p *Processor) upkeep(ctx, queries context.Context) {
	var tidied time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.cfg.Lease / 3):
		}
		err := p.parkLost(queries)
		if err == nil && time.Since(tidied) > p.cfg.Tidy {
			tidied = time.Now()
			err = p.tidy(queries)
		}
		if err != nil && ctx.Err() == nil {
			p.cfg.Log.Warn("upkeep", "err", err)
		}
	}
}

// remove removes runs whose time is over until ctx ends, a batch at a time; a batch
// that has begun then ends.
func (p *Processor) remove(ctx, queries context.Context) {
	for rows, rest := 0, p.cfg.Remove; ; {
		jitter := time.Duration(rand.Int64N(int64(rest)/10 + 1))
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest + jitter):
		}
		did, err := p.cfg.Store.RemoveEnded(queries, p.cfg.Retention, p.cfg.Remove)
		rows, rest = rows+did.Rows, did.Rest
		if err == nil && did.Kept != nil {
			p.cfg.Log.Warn("a run stays that was to be removed: something refers to it, or forbids it", "err", did.Kept)
		}
		if err == nil && !did.Over {
			continue
		}
		if err != nil && ctx.Err() == nil {
			p.cfg.Log.Warn("remove ended runs", "err", err)
		}
		if rows > 0 {
			p.cfg.Log.Info("removed runs that ended longer ago than they are kept", "rows", rows)
		}
		rows, rest = 0, p.cfg.Remove
	}
}

func (p *Processor) tidy(ctx context.Context) error {
	if err := p.cfg.Store.forgetCounts(ctx); err != nil {
		return err
	}
	removed, err := p.cfg.Store.RemoveImages(ctx)
	if removed > 0 {
		p.cfg.Log.Info("removed images that nobody needs any more", "rows", removed)
	}
	return err
}

// parkLost is not for every sweep: for want of a key, an engine or memory it looks
// into all rows that wait.
func (p *Processor) parkLost(ctx context.Context) error {
	parked, err := p.cfg.Store.ParkUnopenable(ctx)
	if parked > 0 {
		p.cfg.Log.Warn("stuck: no host that runs has the keys these are sealed with; start one that has them in AMBER_KEYS", "rows", parked)
	}
	if err != nil {
		return err
	}
	parked, err = p.cfg.Store.ParkEngineless(ctx)
	if parked > 0 {
		p.cfg.Log.Warn("stuck: no host that runs has the engine these were suspended by", "rows", parked)
	}
	if err != nil {
		return err
	}
	parked, err = p.cfg.Store.ParkTooLarge(ctx)
	if parked > 0 {
		p.cfg.Log.Warn("stuck: no host that runs gives as much memory to one task as these take; start one with a larger limit-memory", "rows", parked)
	}
	return err
}
