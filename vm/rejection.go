package vm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/amberhost/amber/service"
)

// rejection is a promise that was rejected while nothing listened to it. Both
// values are held until the end of the turn.
type rejection struct{ promise, reason uint64 }

// maxRejections are noted in one slice: each is a line of its log.
const maxRejections = 100

// tagObject is the tag, the upper half of a value, of a JavaScript object.
const tagObject = 0xffffffff

// rejected and heard are what the engine calls when a promise is rejected
// without a listener, and when it gets its first one later. They run within
// guest code and only note it.
func (s *sandbox) rejected(ctx context.Context, object uint32, reason uint64) {
	if s.slice == nil || s.slice.rejections >= maxRejections {
		return
	}
	s.slice.rejections++
	r := rejection{tagObject<<32 | uint64(object), reason}
	s.nested(ctx, s.nestedClone, uint64(s.image.Context), r.promise)
	s.nested(ctx, s.nestedClone, uint64(s.image.Context), r.reason)
	s.rejections = append(s.rejections, r)
}

func (s *sandbox) heard(ctx context.Context, object uint32) {
	i := slices.IndexFunc(s.rejections, func(r rejection) bool { return uint32(r.promise) == object })
	if i < 0 {
		return
	}
	r := s.rejections[i]
	s.rejections = slices.Delete(s.rejections, i, i+1)
	s.slice.rejections--
	for _, v := range []uint64{r.promise, r.reason} {
		s.nested(ctx, s.nestedFreeValue, uint64(s.image.Context), v)
	}
}

// reportRejections logs the rejections that are still unheard at the end of a
// turn. Describing one may run code of the task, and reject more.
func (s *sandbox) reportRejections(ctx context.Context) error {
	for len(s.rejections) > 0 {
		r := s.rejections[0]
		s.rejections = s.rejections[1:]
		thrown, err := s.describeValue(ctx, r.reason)
		if err != nil {
			return err
		}
		s.slice.unheard(thrown)
		if err := s.release(ctx, r.promise); err != nil {
			return err
		}
		if err := s.drain(ctx); err != nil {
			return err
		}
	}
	return nil
}

// unheard logs a rejection, unless it is what the task failed with: the engine
// evaluates a module through promises of its own.
func (s *slice) unheard(e *service.Error) {
	if end := s.out.Err; end != nil && *end == *clipError(*e) {
		return
	}
	text := strings.TrimSuffix(e.Stack, "\n")
	if text == "" {
		text = e.Message
	}
	s.warn("a promise was rejected and nothing awaited it: " + text)
}

// The place in JSContext of its JSRuntime, and in that of the queue of jobs, an
// empty ring after boot, which the tracker's two fields precede and the module
// loader's function follows.
const (
	runtimeField = 16
	trackerAhead = 8
	loaderAfter  = 12
	runtimeSize  = 512
)

// trackRejections makes the engine call the tracker that harden added to its
// table. Only a field of its JSRuntime says so, found by what is around it.
func trackRejections(_ context.Context, s *sandbox, _ Options) error {
	runtime, ok := s.memory.ReadUint32Le(s.image.Context + runtimeField)
	view, ok2 := s.memory.Read(runtime, runtimeSize)
	if !ok || !ok2 {
		return errors.New("track rejections: no runtime")
	}
	word := func(at uint32) uint32 { return binary.LittleEndian.Uint32(view[at:]) }
	var found []uint32
	for at := uint32(trackerAhead); at+loaderAfter < runtimeSize; at += 4 {
		ring := word(at) == runtime+at && word(at+4) == runtime+at
		loader := word(at+8) == 0 && word(at+loaderAfter) > 0 && word(at+loaderAfter) < trackerIndex
		if ring && loader && word(at-trackerAhead) == 0 && word(at-4) == 0 {
			found = append(found, at-trackerAhead)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("track rejections: the field may be at any of %v", found)
	}
	binary.LittleEndian.PutUint32(view[found[0]:], trackerIndex)
	return nil
}
