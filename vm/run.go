package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/amberhost/amber/service"
	"github.com/google/uuid"
)

// Start runs a task's body until it ends or waits for a call. The error is the
// host's own alone, such as ctx being done before a slot was free; what the
// task did wrong, its source included, is in Outcome.Err.
func (e *Engine) Start(ctx context.Context, p StartParams) (*Outcome, error) {
	key, size := keyOf(p), uint32(len(e.base.memory))
	known := e.loaded.get(key)
	if known != nil {
		size = known.delta.size
	}
	turn, err := e.turns.enter(ctx, p.Group, uint64(size))
	if err != nil {
		return nil, fmt.Errorf("start task %s: %w", p.Name, err)
	}
	defer e.turns.leave(turn)
	s, err := e.take(ctx, e.base, size)
	if err != nil {
		return nil, fmt.Errorf("start task %s: %w", p.Name, err)
	}
	defer e.give(ctx, s)
	if known != nil {
		memory, _ := s.memory.Read(0, size)
		known.delta.restore(e.base, memory)
	}
	if p.Begins != nil {
		p.Begins()
	}
	return e.run(ctx, s, turn, p.Frame, state{sequence: p.Sequence}, func(ctx context.Context) error {
		body, err := e.body(ctx, s, p, key, known)
		if err != nil || s.slice.out.Ended {
			return err
		}
		return s.begin(ctx, p, body)
	})
}

// Resume brings a waiting task back, settles its calls, and runs it until it
// ends or waits again. Each reply is its own turn, in the order given: the task
// cannot tell whether they came together. Replies to calls that are not open
// come late and are left out. frame must be the one that the snapshot was taken
// of; an increment has to come with the chain that it is based on (see
// [DecodeSnapshot]). The error is the host's alone, as that of Start is, and wraps
// ErrUnknownImage, ErrUnknownEngine, ErrBadSnapshot or keys.ErrUnknownKey where
// the snapshot cannot be resumed here.
func (e *Engine) Resume(ctx context.Context, frame uuid.UUID, snap *Snapshot, replies []Reply) (*Outcome, error) {
	return e.ResumeThen(ctx, uuid.Nil, frame, snap, replies, func() {})
}

// ResumeThen is Resume for a slice of a group, see StartParams. It calls begins when the turn has come and the task has its
// memory back: the caller needs the snapshot no more. begins may wait, and others
// with it.
func (e *Engine) ResumeThen(ctx context.Context, group, frame uuid.UUID, snap *Snapshot, replies []Reply, begins func()) (*Outcome, error) {
	out, err := e.resume(ctx, group, frame, snap, replies, begins)
	if err != nil {
		return nil, fmt.Errorf("resume %v: %w", frame, err)
	}
	return out, nil
}

func (e *Engine) resume(ctx context.Context, group, frame uuid.UUID, snap *Snapshot, replies []Reply, begins func()) (*Outcome, error) {
	module := e.module(snap.Engine)
	switch {
	case module == nil:
		return nil, fmt.Errorf("%w: %v, this host has %v", ErrUnknownEngine, snap.Engine, e.Identities())
	case uint64(snap.Size) > e.MaxMemory():
		return nil, fmt.Errorf("vm: the task takes %d MiB of memory, and this host gives %d MiB to one: raise its limit of memory", snap.Size>>20, e.MaxMemory()>>20)
	case snap.Frame != frame:
		return nil, badSnapshot("of frame %v", snap.Frame)
	}
	image, err := e.image(ctx, module, snap.Image)
	if err != nil {
		return nil, err
	}
	turn, err := e.turns.enter(ctx, group, uint64(snap.Size))
	if err != nil {
		return nil, err
	}
	defer e.turns.leave(turn)
	var s *sandbox
	from := state{sequence: snap.Sequence}
	if err := e.codec.open(snap, image, func(o *opened) error {
		if s, err = e.take(ctx, image, snap.Size); err != nil {
			return err
		}
		memory, _ := s.memory.Read(0, snap.Size)
		o.restore(image, memory)
		from.open, from.usage = o.last().state()
		from.base = o.base(memory)
		return nil
	}); err != nil {
		return nil, err
	}
	defer e.give(ctx, s)
	begins()
	replies = owed(from.open, replies)
	return e.run(ctx, s, turn, frame, from, func(ctx context.Context) error { return s.settleAll(ctx, replies) })
}

// owed are the replies to open calls, one each. The others come late: the task
// gave the call up, or has had its reply.
func owed(open []uint32, replies []Reply) []Reply {
	waits := make(map[uint32]bool, len(open))
	for _, id := range open {
		waits[id] = true
	}
	kept := make([]Reply, 0, len(replies))
	for _, r := range replies {
		if waits[r.ID] {
			kept = append(kept, r)
		}
		delete(waits, r.ID)
	}
	return kept
}

// run lets the guest do its work and makes an Outcome of where it got to.
func (e *Engine) run(ctx context.Context, s *sandbox, turn *turn, frame uuid.UUID, from state, work func(context.Context) error) (*Outcome, error) {
	limits := e.options.Limits
	s.slice = &slice{limits: limits, before: from.usage,
		full: from.usage.lines >= int64(limits.RunLines) || from.usage.lineBytes >= int64(limits.RunLineBytes)}
	s.slice.out.Open, s.slice.open = from.open, len(from.open)
	out := &s.slice.out
	guest := context.WithValue(context.WithoutCancel(ctx), sandboxKey{}, s)
	s.startMeter(ctx, e, turn, from.usage)
	err := s.wake(guest)
	if err == nil {
		err = work(guest)
	}
	s.nameExhaustion(out)
	used := usage{s.used(), int64(len(out.Logs)), int64(s.slice.lineBytes)}
	out.CPU = used.cpu()
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return nil, context.Cause(ctx)
	case err != nil && !out.Ended:
		s.slice.end(guestError(err))
		e.options.Log.WarnContext(ctx, "guest stopped", "stack_run", frame, "err", firstLine(err.Error()))
	case !out.Ended && len(out.Open) == 0 && s.full(): // a job that did not fit was dropped
		s.slice.end(guestError(errNoMemory))
	case !out.Ended && len(out.Open) == 0:
		s.slice.end(service.Errorf(service.CodeTaskDeadlock,
			"the task waits for a promise that nothing will settle: no call and no timer is open. Look for a new Promise whose resolve is never called, a timer that was cleared, or functions that wait for each other"))
	}
	if out.Ended {
		return out, nil
	}
	next := state{open: out.Open, usage: from.usage.plus(used), sequence: from.sequence + 1, base: from.base}
	if out.Snapshot, err = e.codec.save(s, frame, next); err != nil {
		return nil, err
	}
	if n := out.Snapshot.Stored(); n > limits.Snapshot {
		s.slice.end(tooLarge(service.CodeSnapshotTooLarge, "what the task remembers while it waits", n, limits.Snapshot))
		out.Snapshot = nil
	}
	return out, nil
}

// maxInt is the largest integer that crosses to the guest as one.
const maxInt = 1<<31 - 1

// state is what a body brings along from slice to slice besides its memory.
type state struct {
	open     []uint32 // calls
	usage    usage
	sequence uint64 // of its last snapshot
	base     *base  // that snapshot, if the next one may be an increment to it
}

// wake gives the guest fresh randomness, since VMs of one image would share
// theirs, and its limits.
func (s *sandbox) wake(ctx context.Context) error {
	a, b := rand.Uint64(), rand.Uint64()
	l := s.slice.limits
	v, err := s.call(ctx, s.image.Wake, uint64(uint32(a)), a>>32, uint64(uint32(b)), b>>32, uint64(min(l.Calls, maxInt)), uint64(min(l.Value, maxInt)))
	if err != nil {
		return err
	}
	return s.release(ctx, v)
}

// body brings the task's code into the sandbox, where it is not in already. It
// ends a slice whose code is refused.
func (e *Engine) body(ctx context.Context, s *sandbox, p StartParams, key loadedKey, known *loaded) (uint64, error) {
	if known != nil {
		return known.body, nil
	}
	body, refused, err := s.load(ctx, p)
	if err != nil {
		return 0, err
	}
	if refused != nil {
		s.slice.end(refused)
		return 0, nil
	}
	l, err := s.loaded(body)
	if err == nil {
		e.loaded.put(key, l)
	}
	return body, err
}

// begin calls the task's entry function.
func (s *sandbox) begin(ctx context.Context, p StartParams, body uint64) error {
	if n, most := len(p.Input), s.slice.limits.Value; n > most {
		s.slice.end(tooLarge(service.CodeArgumentsTooLarge, "the task's input", n, most))
		return nil
	}
	input := []byte(p.Input)
	if len(input) == 0 {
		input = []byte("null")
	}
	head := len(bodyHead)
	if body == s.image.Undefined {
		head = 0
	}
	args := []uint64{body}
	for _, text := range [][]byte{quoted(fileName(p.Name)), strconv.AppendInt(nil, int64(head), 10), input, quoted(p.TaskRun), quoted(p.StackRun)} {
		v, err := s.parse(ctx, text)
		if err != nil {
			return err
		}
		if v == s.image.Exception || bytes.IndexByte(text, 0) >= 0 {
			return s.invalidInput(ctx)
		}
		args = append(args, v)
	}
	return s.turn(ctx, s.image.Start, args...)
}

func (s *sandbox) invalidInput(ctx context.Context) error {
	thrown, err := s.describe(ctx)
	if err != nil {
		return err
	}
	s.slice.end(service.Errorf(service.CodeInvalidInput, "the task's input is not JSON: %s", thrown.Message))
	return nil
}

// settleAll delivers replies one by one, each followed by everything it sets off.
func (s *sandbox) settleAll(ctx context.Context, replies []Reply) error {
	for _, r := range replies {
		if s.slice.out.Ended {
			return nil
		}
		if !s.slice.settle(r.ID) {
			continue // given up by the task since
		}
		kind, value, err := s.replyValue(ctx, r)
		if err != nil {
			return err
		}
		if err := s.turn(ctx, s.image.Settle, uint64(r.ID), kind, value); err != nil {
			return err
		}
	}
	return nil
}

// replyValue makes the JavaScript value of a reply. kind is 1 for an error.
func (s *sandbox) replyValue(ctx context.Context, r Reply) (kind, value uint64, err error) {
	if r.Err != nil {
		value, err = s.parse(ctx, errorText(r.Err))
		return 1, value, err
	}
	if len(r.Value) == 0 {
		return 0, s.image.Undefined, nil
	}
	if n, most := len(r.Value), s.slice.limits.Value; n > most {
		value, err = s.parse(ctx, errorText(tooLarge(service.CodeResultTooLarge, "the reply", n, most)))
		return 1, value, err
	}
	value, err = s.parse(ctx, r.Value)
	if err != nil || value != s.image.Exception {
		return 0, value, err
	}
	thrown, err := s.describe(ctx)
	if err != nil {
		return 0, 0, err
	}
	refused := service.Errorf(service.CodeServiceError, "the reply is not JSON: %s", thrown.Message)
	if limitOf(thrown).Code == service.CodeMemoryLimit {
		refused = service.Errorf(service.CodeMemoryLimit, "the reply of %d bytes does not fit into the task's memory", len(r.Value))
	}
	value, err = s.parse(ctx, errorText(refused))
	return 1, value, err
}

// turn calls a function of the prelude and runs the job queue empty.
func (s *sandbox) turn(ctx context.Context, function uint64, args ...uint64) error {
	v, err := s.call(ctx, function, args...)
	if err != nil {
		return err
	}
	if v == s.image.Exception {
		thrown, err := s.describe(ctx)
		if err != nil {
			return err
		}
		s.slice.uncaught(thrown)
	} else if err := s.release(ctx, v); err != nil {
		return err
	}
	if err := s.drain(ctx); err != nil {
		return err
	}
	return s.reportRejections(ctx)
}

func errorText(e *service.Error) []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and a number
	}
	return b
}

func quoted(text string) []byte {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string
	}
	return b
}
