package vm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/amberhost/amber/service"
)

// callSlack is what a call's text may hold besides its arguments.
const callSlack = 64 << 10

// slice collects what a VM tells its host while it runs, and becomes an Outcome.
// Its methods run inside host calls: they panic where the guest is at fault.
type slice struct {
	out        Outcome
	limits     Limits
	before     usage // of the body's earlier slices
	lineBytes  int   // of out.Logs
	full       bool  // no more lines are taken
	open       int   // calls when the slice began
	callBytes  int   // of all calls' texts
	callSizes  []int // of out.Calls
	rejections int   // noted so far
}

// call records a call that the task made. Calls made after the end are nobody's.
func (s *slice) call(id uint32, text []byte) {
	if s.out.Ended {
		return
	}
	// The prelude looked at the arguments before; there are names and options too.
	s.callBytes += len(text)
	if most := s.limits.Value; len(text) > most+callSlack {
		s.end(tooLarge(service.CodeArgumentsTooLarge, fmt.Sprintf("call %d with its options", id), len(text), most))
		return
	} else if s.callBytes > callsFactor*most+callSlack {
		s.end(tooLarge(service.CodeArgumentsTooLarge, "what the task calls without waiting", s.callBytes, callsFactor*most))
		return
	}
	if n := len(s.out.Open); n > 0 && s.out.Open[n-1] >= id || n >= max(s.limits.Calls, s.open) {
		panic(fmt.Errorf("%w: call %d beside %d others", errHostCall, id, n))
	}
	c := Call{ID: id}
	if err := json.Unmarshal(text, &c.Call); err != nil {
		if depth := "exceeded max depth"; strings.Contains(err.Error(), depth) {
			s.end(service.Errorf(service.CodeInvalidArgument, "the arguments of call %d nest too deep", id))
			return
		}
		panic(fmt.Errorf("%w: call %d: %w", errHostCall, id, err))
	}
	s.out.Calls = append(s.out.Calls, c)
	s.out.Open = append(s.out.Open, id)
	s.callSizes = append(s.callSizes, len(text))
}

// cancel gives up a call. One of this slice is as if it had never been made.
func (s *slice) cancel(id uint32) {
	if s.out.Ended || !s.settle(id) {
		return
	}
	for i, c := range slices.Backward(s.out.Calls) {
		if c.ID == id {
			s.callBytes -= s.callSizes[i]
			s.out.Calls, s.callSizes = slices.Delete(s.out.Calls, i, i+1), slices.Delete(s.callSizes, i, i+1)
			return
		}
	}
	s.out.Cancelled = append(s.out.Cancelled, id)
}

// settle takes a call off the open ones and reports whether it was one.
func (s *slice) settle(id uint32) bool {
	i := slices.Index(s.out.Open, id)
	if i < 0 {
		return false
	}
	s.out.Open = slices.Delete(s.out.Open, i, i+1)
	return true
}

// log records a line, text being a JSON string, and reports whether the slice
// is to write no more of them.
func (s *slice) log(level, text []byte) (full bool) {
	if s.full {
		return true
	}
	var message string
	if err := json.Unmarshal(text, &message); err != nil {
		panic(fmt.Errorf("%w: log: %w", errHostCall, err))
	}
	s.addLog(string(level), message)
	return s.full
}

// warn adds a line of the host's own, if there is room.
func (s *slice) warn(message string) {
	if !s.full {
		s.addLog("warn", message)
	}
}

// addLog adds a line, and after the last one that there is room for one that
// says so.
func (s *slice) addLog(level, message string) {
	add := func(level, message string) {
		message = clip(message, maxLineBytes, "…")
		s.lineBytes += len(message)
		s.out.Logs = append(s.out.Logs, Log{At: time.Now(), Level: level, Message: message})
	}
	add(level, message)
	l, lines := s.limits, len(s.out.Logs)+1
	allLines, allBytes := s.before.lines+int64(lines), s.before.lineBytes+int64(s.lineBytes)
	switch {
	case allLines >= int64(l.RunLines), allBytes >= int64(l.RunLineBytes):
		add("warn", fmt.Sprintf("the task has written %d lines of %d bytes in all: more are dropped", allLines-1, allBytes))
	case lines >= l.Lines, s.lineBytes >= l.LineBytes:
		add("warn", fmt.Sprintf("%d lines of %d bytes were written without waiting for a call: the others are dropped", lines-1, s.lineBytes))
	default:
		return
	}
	s.full = true
}

func (s *slice) done(text []byte) {
	if most := s.limits.Value; len(text) > most {
		s.end(tooLarge(service.CodeResultTooLarge, "the task's result", len(text), most))
	}
	if !s.out.Ended {
		s.out.Ended, s.out.Result = true, text
	}
}

func (s *slice) fail(text []byte) { s.uncaught(decodeError(text)) }

// end ends the task with an error; the first end counts.
func (s *slice) end(e *service.Error) {
	if !s.out.Ended {
		s.out.Ended, s.out.Err = true, clipError(*e)
	}
}

// uncaught ends the task with an exception that no code of it caught.
func (s *slice) uncaught(e *service.Error) {
	if name, ok := refusedImport(e); ok {
		e = importError("", name)
	}
	s.end(limitOf(e))
}

// decodeError reads what the prelude's describe wrote.
func decodeError(text []byte) *service.Error {
	e := new(service.Error)
	if err := json.Unmarshal(text, e); err != nil {
		return &service.Error{Name: "InternalError", Code: service.CodeEngine, Message: "the task failed in a way that cannot be described"}
	}
	return e
}
