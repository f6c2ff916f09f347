package stack_test

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

const (
	mostRows  = 30 // of a check: from then on bodies make no calls that they need not
	mostDepth = 2  // of nesting
)

// actions are what rapid chooses from.
func (w *world) actions() map[string]func(*rapid.T) {
	two, above := func(*rapid.T) { w.race() }, func(*rapid.T) { w.duel() }
	actions := map[string]func(*rapid.T){"two at once": two, "two more": two, "one above the other": above, "one above another": above, "one far above": above}
	for name := range w.draws() {
		actions[name] = func(*rapid.T) { w.step(w.drawn(name)) }
	}
	return actions
}

// drawn is a verb of that name, or another if there is nothing that it could be about.
func (w *world) drawn(name string) verb {
	draws := w.draws()
	for _, name := range []string{name, "Open", "Held", "Suspend", "Complete call", "Claim", "by hand"} {
		if v, ok := draws[name](); ok {
			return v
		}
	}
	if v, ok := w.drawStart(); ok {
		return v
	}
	return w.reap()
}

// draws make verbs. Those that matter most are drawn under two names.
func (w *world) draws() map[string]func() (verb, bool) {
	return map[string]func() (verb, bool){
		"Start":         w.drawStart,
		"Claim":         w.drawClaim,
		"Open":          w.drawOpen,
		"Open next":     w.drawOpen,
		"Held":          w.drawHeld,
		"Suspend":       w.drawSuspend,
		"Suspend next":  w.drawSuspend,
		"Suspend more":  w.drawSuspend,
		"Complete call": w.drawCall,
		"Complete next": w.drawCall,
		"Complete body": w.drawBody,
		"Answer":        w.drawAnswer,
		"lease":         w.drawLease,
		"Reap":          func() (verb, bool) { return w.reap(), true },
		"give back":     w.drawGiveBack,
		"by hand":       w.drawByHand,
		"Cancel":        w.drawCancel,
		"Expire":        w.drawExpire,
		"Again":         w.drawAgain,
		"WakeDue":       w.drawWakeDue,
		"RetryRun":      w.drawRetry,
		"Retry next":    w.drawRetry,
	}
}

func (w *world) drawStart() (verb, bool) {
	if len(w.some(func(r *modelRow) bool { return r.Parent == uuid.Nil && !r.ended() })) >= 2 || len(w.m.rows) > mostRows {
		return verb{}, false
	}
	return w.start(w.anyHost(), w.chance(70, "hold"), map[bool]time.Duration{true: time.Hour}[w.chance(20, "timed")]), true
}

func (w *world) drawClaim() (verb, bool) {
	h, ok := mostly(w, w.hosts, func(h stack.Host) bool {
		return len(w.some(func(r *modelRow) bool {
			return w.m.claimable(h, r, stack.ClaimAll) || w.m.claimable(h, r, stack.ClaimSuspects)
		})) > 0
	}, nobody)
	if !ok {
		return verb{}, false
	}
	free := w.some(func(r *modelRow) bool { return r.Status == stack.StatusPending || r.Status == stack.StatusResume })
	if id, ok := pick(w, free, "row", itself); ok && w.chance(25, "one row") {
		return w.claimRow(h, id), true
	}
	kind := rapid.SampledFrom([]stack.ClaimKind{stack.ClaimAll, stack.ClaimAll, stack.ClaimBodies, stack.ClaimCalls, stack.ClaimSuspects}).Draw(w.t, "kind")
	return w.claim(h, kind, w.number(1, 4, "limit")), true
}

func (w *world) drawOpen() (verb, bool) {
	c, ok := mostly(w, w.claims, func(c claimed) bool {
		r := w.m.row(c.claim.ID)
		return r.Status == stack.StatusProcessing && r.Host == c.host.ID && r.Sequence == c.at && !slices.ContainsFunc(w.works, func(k work) bool {
			return k.id == r.ID && k.host.ID == r.Host && k.sequence == c.at
		})
	}, func(c claimed) uuid.UUID { return c.claim.ID })
	return w.open(c), ok
}

// drawHeld reads a body that a commit gave to a host, which does not have it yet.
func (w *world) drawHeld() (verb, bool) {
	if w.chance(10, "any") {
		id, ok := pick(w, w.some((*modelRow).body), "row", itself)
		return w.hold(w.anyHost(), id), ok
	}
	id, ok := pick(w, w.some(func(r *modelRow) bool {
		return r.body() && r.Status == stack.StatusProcessing && !slices.ContainsFunc(w.works, func(k work) bool { return k.id == r.ID && w.fresh(k) })
	}), "row", itself)
	if !ok {
		return verb{}, false
	}
	for _, h := range w.hosts {
		if h.ID == w.m.row(id).Host {
			return w.hold(h, id), true
		}
	}
	return verb{}, false
}

// drawWork is a slice, mostly one that can be committed.
func (w *world) drawWork() (work, bool) {
	return mostly(w, w.works, w.fresh, func(k work) uuid.UUID { return k.id })
}

// fresh reports whether a slice can be committed: none that waits runs before there is a reply for it.
func (w *world) fresh(k work) bool {
	r := w.m.row(k.id)
	if r.ended() || !r.fenced(k.host, stack.Slice{Sequence: k.sequence, Held: k.held}.WithAttempt(k.attempt)) {
		return false
	}
	return k.held || slices.ContainsFunc(w.m.calls(k.id), func(c *modelRow) bool { return c.fenced(k.host, stack.Slice{Sequence: c.Sequence, Held: true}) })
}

// slice is what a slice has when it is committed: replies that came in this process.
func (w *world) slice(k work, deep int) stack.Slice {
	sl := stack.Slice{Sequence: k.sequence, Held: k.held, Delivered: k.replies}.WithAttempt(w.claimOf(k.attempt))
	for _, c := range w.m.calls(k.id) {
		if slices.Contains(k.replies, c.ID) {
			continue
		}
		if e, good, ok := w.inProcess(k.host, c, deep); ok && w.chance(map[bool]int{true: 50, false: 3}[good], "settle") {
			sl.Settled = append(sl.Settled, e)
		}
	}
	return sl
}

// inProcess is the ending of a call on a host that is, or was, to make it. good
// says that it still is.
func (w *world) inProcess(host stack.Host, c *modelRow, deep int) (e stack.Ending, good, ok bool) {
	if c.body() {
		for _, k := range slices.Backward(w.works) {
			if k.id == c.ID && k.host.ID == host.ID && deep > 0 {
				e, ok = w.bodyEnding(k, deep-1)
				return e, w.fresh(k), ok
			}
		}
		return e, false, false
	}
	e = stack.Ending{ID: c.ID, Parent: c.Parent, CallID: uint32(c.CallID), Reply: w.anyReply()}
	if c.Service == "sleep" {
		return e, c.fenced(host, e.Slice), true
	}
	for _, h := range slices.Backward(w.calls) {
		if h.id == c.ID && h.host.ID == host.ID {
			e.Slice = h.slice()
			return e, c.fenced(host, e.Slice), true
		}
	}
	return e, false, false
}

func (w *world) anyReply() service.Reply {
	switch w.number(0, 9, "reply") {
	case 8:
		return w.reply(true, service.CodeServiceError)
	case 9:
		return w.reply(true, service.CodeCancelled)
	}
	return w.reply(false, "")
}

// bodyEnding ends a body with a slice.
func (w *world) bodyEnding(k work, deep int) (stack.Ending, bool) {
	r := w.m.row(k.id)
	sl := w.slice(k, deep)
	if !k.held && len(sl.Settled) == 0 {
		return stack.Ending{}, false // nothing has set it going
	}
	e := stack.Ending{ID: k.id, Parent: r.Parent, CallID: uint32(max(r.CallID, 0)), Reply: w.anyReply(), TaskRun: k.run, Slice: sl}
	if w.chance(30, "fails") {
		e.Reply = w.reply(true, service.CodeServiceError)
	}
	for _, c := range w.m.calls(k.id) {
		seen := slices.Contains(sl.Delivered, c.ID) || slices.ContainsFunc(sl.Settled, func(s stack.Ending) bool { return s.ID == c.ID })
		e.CancelOpen = e.CancelOpen || !seen && !c.Delivered && !c.old
	}
	if w.chance(15, "unsent") {
		e.Unsent = append(e.Unsent, stack.Child{ID: uuid.Must(uuid.NewV7()), CallID: w.nextCall(k.id), Call: call("echo")})
	}
	return asInterrupted(e, w.reasonFor(k)), true
}

// nextCall is the number of the next call of a body: those that it made before it
// began anew do not count.
func (w *world) nextCall(body uuid.UUID) uint32 {
	return uint32(len(slices.DeleteFunc(w.m.calls(body), func(c *modelRow) bool { return c.old })) + 1)
}

func (w *world) drawSuspend() (verb, bool) {
	k, ok := w.drawWork()
	if !ok {
		return verb{}, false
	}
	return w.suspends(k)
}

// suspends has a slice end in a wait.
func (w *world) suspends(k work) (verb, bool) {
	sl := w.slice(k, 2)
	if !k.held && len(sl.Settled) == 0 {
		return verb{}, false
	}
	sp := stack.Suspension{ID: k.id, TaskRun: k.run, Task: "pair", Depth: k.depth, Root: k.run, Slice: sl, Grace: w.drawGrace()}
	waits := 0
	for _, c := range w.m.calls(k.id) {
		switch {
		case c.Delivered, c.old, slices.Contains(sl.Delivered, c.ID), slices.ContainsFunc(sl.Settled, func(e stack.Ending) bool { return e.ID == c.ID }):
		case c.Service == "sleep" && w.chance(25, "cancel"):
			sp.Cancelled = append(sp.Cancelled, uint32(c.CallID))
			if c.ended() {
				waits++ // its reply was there first
			}
		default:
			waits++
		}
	}
	calls := 0
	if len(w.m.rows) < mostRows {
		calls = w.number(0, 3, "calls")
	}
	if waits == 0 {
		calls = max(1, calls)
	}
	for i := range calls {
		sp.Calls = append(sp.Calls, w.drawChild(k, w.nextCall(k.id)+uint32(i)))
	}
	sp.Waits = waits + calls
	h := w.leaving(k.host)
	increment := w.chance(40, "increment") && k.sequence > w.m.row(k.id).Begins
	sp.Snapshot = w.shots.of(k.id, k.sequence+1, increment, h.Engines[0] != w.shots.engines[0][0])
	return w.suspend(h, k, sp), true
}

func (w *world) drawChild(k work, number uint32) stack.Child {
	c := stack.Child{ID: uuid.Must(uuid.NewV7()), CallID: number, Left: w.chance(15, "left"), Deadline: w.drawDeadline()}
	sorts := []string{"echo", "sleep", "tasks", "tasks"}
	if k.depth >= mostDepth || len(w.m.rows) > mostRows {
		sorts = sorts[:2]
	}
	name := rapid.SampledFrom(sorts).Draw(w.t, "service")
	c.Call = call(name)
	switch name {
	case "sleep":
		c.Timer, c.Left, c.After = true, false, time.Hour
		if w.chance(50, "due") {
			c.After = 0
		}
	case "tasks":
		c.TaskRun, c.Task, c.Input = uuid.Must(uuid.NewV7()), "pair", json.RawMessage(`null`)
		if w.chance(10, "later") {
			c.Left, c.After = false, time.Hour
		}
	}
	return c
}

// drawCall ends a call or a timer, on a host that holds or held it.
func (w *world) drawCall() (verb, bool) {
	h, timer := w.anyHost(), false
	var id uuid.UUID
	var sl stack.Slice
	due := w.some(func(r *modelRow) bool { return r.Status == stack.StatusSleeping && r.due && r.Service == "sleep" })
	if w.chance(10, "early") {
		due = w.some(func(r *modelRow) bool { return r.Service == "sleep" })
	}
	if id, timer = pick(w, due, "timer", itself); !timer || w.chance(60, "no timer") {
		c, ok := mostly(w, w.calls, func(c inHand) bool { return w.m.row(c.id).fenced(c.host, c.slice()) }, func(c inHand) uuid.UUID { return c.id })
		if !ok {
			return verb{}, false
		}
		h, id, sl = w.leaving(c.host), c.id, stack.Slice{}.WithAttempt(w.claimOf(c.attempt))
	}
	return w.complete(h, w.callEnding(id, sl)), true
}

// callEnding ends a call, by whoever makes it, or is not known to.
func (w *world) callEnding(id uuid.UUID, sl stack.Slice) stack.Ending {
	r := w.m.row(id)
	return stack.Ending{ID: id, Parent: r.Parent, CallID: uint32(max(r.CallID, 0)), Reply: w.anyReply(), Slice: sl}
}

func (w *world) drawBody() (verb, bool) {
	k, ok := w.drawWork()
	if !ok || len(w.m.rows) < mostRows/2 && w.chance(60, "early") {
		return verb{}, false
	}
	return w.completes(k)
}

// completes has a slice end its body.
func (w *world) completes(k work) (verb, bool) {
	e, ok := w.bodyEnding(k, 2)
	return w.complete(w.leaving(k.host), e), ok
}

func (w *world) drawAnswer() (verb, bool) {
	open := w.some(func(r *modelRow) bool { return !r.body() && !r.ended() })
	if w.chance(15, "late") {
		open = w.some(func(r *modelRow) bool { return !r.body() })
	}
	id, ok := pick(w, open, "call", itself)
	if !ok {
		return verb{}, false
	}
	h := w.anyHost()
	if w.chance(20, "works no more") {
		h.ID = uuid.Nil
	}
	return w.answer(h, w.callEnding(id, stack.Slice{})), true
}

func withoutLeaving(h stack.Host) stack.Host {
	h.Leaving = false
	return h
}
