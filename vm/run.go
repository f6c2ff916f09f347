package vm

import (
	"bytes"
	"context"
	"encoding/json"
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
	leave, err := e.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("start task %s: %w", p.Name, err)
	}
	defer leave()
	s, err := e.take(ctx, e.base, uint32(len(e.base.memory)))
	if err != nil {
		return nil, fmt.Errorf("start task %s: %w", p.Name, err)
	}
	defer e.give(ctx, s)
	return e.run(ctx, s, p.Frame, 1, nil, func(ctx context.Context) error { return e.begin(ctx, s, p) })
}

// Resume brings a waiting task back, settles its calls, and runs it until it
// ends or waits again. Each reply is its own turn, in the order given: the task
// cannot tell whether they came together. Replies to calls that are not open
// come late and are left out. frame must be the one that the snapshot was taken
// of. The error is the host's alone, as that of Start is, and wraps
// ErrUnknownImage, ErrUnknownEngine, ErrBadSnapshot or keys.ErrUnknownKey where
// the snapshot cannot be resumed here.
func (e *Engine) Resume(ctx context.Context, frame uuid.UUID, snap *Snapshot, replies []Reply) (*Outcome, error) {
	out, err := e.resume(ctx, frame, snap, replies)
	if err != nil {
		return nil, fmt.Errorf("resume %v: %w", frame, err)
	}
	return out, nil
}

func (e *Engine) resume(ctx context.Context, frame uuid.UUID, snap *Snapshot, replies []Reply) (*Outcome, error) {
	switch {
	case snap.Engine != engineIdentity():
		return nil, fmt.Errorf("%w: %v, this host has %v", ErrUnknownEngine, snap.Engine, engineIdentity())
	case snap.Frame != frame:
		return nil, badSnapshot("of frame %v", snap.Frame)
	}
	image, err := e.image(ctx, snap.Image)
	if err != nil {
		return nil, err
	}
	leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var s *sandbox
	var open []uint32
	if err := e.codec.open(snap, image, func(d delta) error {
		if s, err = e.take(ctx, image, d.size); err != nil {
			return err
		}
		memory, _ := s.memory.Read(0, d.size)
		d.apply(image, memory)
		open = d.open
		return nil
	}); err != nil {
		return nil, err
	}
	defer e.give(ctx, s)
	replies = owed(open, replies)
	return e.run(ctx, s, frame, snap.Sequence+1, open, func(ctx context.Context) error { return s.settleAll(ctx, replies) })
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
func (e *Engine) run(ctx context.Context, s *sandbox, frame uuid.UUID, sequence uint64, open []uint32, work func(context.Context) error) (*Outcome, error) {
	s.slice = &slice{}
	s.slice.out.Open = open
	out := &s.slice.out
	guest := context.WithValue(context.WithoutCancel(ctx), sandboxKey{}, s)
	err := s.wake(guest)
	if err == nil {
		err = work(guest)
	}
	switch {
	case err != nil && !out.Ended:
		s.slice.end(guestError(err))
		e.options.Log.WarnContext(ctx, "guest stopped", "stack_run", frame, "err", err)
	case !out.Ended && len(out.Open) == 0:
		s.slice.end(service.Errorf(service.CodeTaskDeadlock,
			"the task waits for a promise that nothing will settle: no call and no timer is open"))
	}
	if out.Ended {
		return out, nil
	}
	memory, _ := s.memory.Read(0, s.memory.Size())
	if out.Snapshot, err = e.codec.save(s.image, memory, out.Open, frame, sequence); err != nil {
		return nil, err
	}
	return out, nil
}

// wake gives the guest fresh randomness: VMs of one image would share theirs.
func (s *sandbox) wake(ctx context.Context) error {
	a, b := rand.Uint64(), rand.Uint64()
	v, err := s.call(ctx, s.image.Wake, uint64(uint32(a)), a>>32, uint64(uint32(b)), b>>32)
	if err != nil {
		return err
	}
	return s.release(ctx, v)
}

// begin loads the task and starts its entry function.
func (e *Engine) begin(ctx context.Context, s *sandbox, p StartParams) error {
	body, refused, err := e.load(ctx, s, p.Name, p.Code)
	if err != nil {
		return err
	}
	if refused != nil {
		s.slice.end(refused)
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
	value, err = s.parse(ctx, r.Value)
	if err != nil || value != s.image.Exception {
		return 0, value, err
	}
	thrown, err := s.describe(ctx)
	if err != nil {
		return 0, 0, err
	}
	value, err = s.parse(ctx, errorText(service.Errorf(service.CodeServiceError, "the reply is not JSON: %s", thrown.Message)))
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
