package vm

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/amberhost/amber/service"
)

// SyntaxError says where a task's source does not parse. Line and Column count
// from 1 and are 0 when the engine does not tell.
type SyntaxError struct {
	File         string
	Line, Column int
	Message      string
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

func (s *sandbox) syntaxError(ctx context.Context, src source, head int) (*SyntaxError, error) {
	thrown, err := s.describe(ctx)
	if err != nil {
		return nil, err
	}
	return place(src, thrown, head), nil
}

var (
	atLine  = regexp.MustCompile(`:(\d+):(\d+)\)?$`)
	atToken = regexp.MustCompile(`'(.+)'$`)
)

// place reads where a syntax error is from the first line of its stack. head is
// what was put before the source's first line.
func place(src source, e *service.Error, head int) *SyntaxError {
	at := &SyntaxError{File: src.file, Message: e.Message}
	for line := range strings.Lines(e.Stack) {
		if m := atLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			at.Line, _ = strconv.Atoi(m[1])
			at.Column, _ = strconv.Atoi(m[2])
			break
		}
	}
	lines := strings.Split(src.code, "\n")
	switch {
	case at.Line == 0:
	case at.Line > len(lines): // the tail that was added
		at.Line, at.Column, at.Message = len(lines), len(lines[len(lines)-1])+1, atEnd(at.Message)
	default:
		if at.Line == 1 {
			at.Column -= head
		}
		at.Column = column(lines[at.Line-1], at)
	}
	return at
}

// atEnd says what is wrong where the engine stumbled over the tail: over its braces
// if it expected something else or the code closed the first of them itself, else
// over what follows them. Where it was in the tail it does not tell reliably.
func atEnd(message string) string {
	const end = "unexpected end of the code"
	if message == "Unexpected token '}'" {
		return end + ": a ( or [ is not closed, or there is a } too many"
	}
	return end
}

// column corrects the engine's column, which within arrow functions and methods
// is often the function's own: it is where the line has the token that the
// message names, if it has it once.
func column(line string, at *SyntaxError) int {
	if m := atToken.FindStringSubmatch(at.Message); m != nil && strings.Count(line, m[1]) == 1 {
		return strings.Index(line, m[1]) + 1
	}
	if at.Column < 1 || at.Column > len(line)+1 {
		return 1
	}
	return at.Column
}

var moduleSyntax = regexp.MustCompile(`(?m)^\s*(import|export)\b`)

// pick chooses the error to show of a source that neither language takes.
func pick(src source, body, module *SyntaxError) *SyntaxError {
	if body == nil || moduleSyntax.MatchString(src.code) {
		return module
	}
	return body
}

func invalidTask(e *SyntaxError) *service.Error {
	return &service.Error{Name: "SyntaxError", Code: service.CodeInvalidTask, Message: e.Error()}
}
