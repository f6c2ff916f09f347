package vm

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/amberhost/amber/service"
)

// slice collects what a VM tells its host while it runs, and becomes an Outcome.
// Its methods run inside host calls: they panic where the guest is at fault.
type slice struct {
	out        Outcome
	rejections int // noted so far
}

// call records a call that the task made. Calls made after the end are nobody's.
func (s *slice) call(id uint32, text []byte) {
	if s.out.Ended {
		return
	}
	c := Call{ID: id}
	if err := json.Unmarshal(text, &c.Call); err != nil {
		panic(fmt.Errorf("%w: call %d: %w", errHostCall, id, err))
	}
	s.out.Calls = append(s.out.Calls, c)
	s.out.Open = append(s.out.Open, id)
}

func (s *slice) cancel(id uint32) {
	if !s.out.Ended && s.settle(id) {
		s.out.Cancelled = append(s.out.Cancelled, id)
	}
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
	if len(s.out.Logs) >= maxLogLines {
		return true
	}
	var message string
	if err := json.Unmarshal(text, &message); err != nil {
		panic(fmt.Errorf("%w: log: %w", errHostCall, err))
	}
	s.addLog(string(level), clip(message, maxLogBytes, "…"))
	if len(s.out.Logs) < maxLogLines-1 {
		return false
	}
	s.addLog("warn", fmt.Sprintf("more than %d lines were written without waiting for a call: the others are dropped", maxLogLines-1))
	return true
}

// warn adds a line of the host's own, if there is room.
func (s *slice) warn(message string) {
	if len(s.out.Logs) < maxLogLines-1 {
		s.addLog("warn", clip(message, maxLogBytes, "…"))
	}
}

func (s *slice) addLog(level, message string) {
	s.out.Logs = append(s.out.Logs, Log{At: time.Now(), Level: level, Message: message})
}

func (s *slice) done(text []byte) {
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
	s.end(e)
}

// decodeError reads what the prelude's describe wrote.
func decodeError(text []byte) *service.Error {
	e := new(service.Error)
	if err := json.Unmarshal(text, e); err != nil {
		return &service.Error{Name: "InternalError", Code: service.CodeEngine, Message: "the task failed in a way that cannot be described"}
	}
	return e
}
