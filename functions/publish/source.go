package publish

import (
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// MaxCode is the size in bytes up to which code can be published.
const MaxCode = 1 << 20

// Source is a task as its author has it.
type Source struct {
	Name        string // letters, digits, _ - and . ; begins with a letter, a digit or _
	Code        string // UTF-8, at most MaxCode bytes
	Description string // "" means Description(Name, Code)
	Retention   string // as [stack.ParseRetention] reads it; "" leaves it as it is
}

var (
	validName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$`)
	firstDoc  = regexp.MustCompile(`/\*\*([^/](?s:.*?))\*/`)
)

// Description returns the text of the code's first JSDoc block, tags included,
// without the asterisks; "Task: NAME" if there is none.
func Description(name, code string) string {
	block := firstDoc.FindStringSubmatch(code)
	if block == nil {
		return "Task: " + name
	}
	lines := strings.Split(block[1], "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(strings.TrimLeft(strings.TrimSpace(line), "*"))
	}
	text := strings.Trim(strings.Join(lines, "\n"), "\n")
	if text == "" {
		return "Task: " + name
	}
	return text
}

func (s Source) description() string {
	if s.Description != "" {
		return s.Description
	}
	return Description(s.Name, s.Code)
}

// retention is nil to leave it as it is.
func (s Source) retention() (*time.Duration, error) {
	if s.Retention == "" {
		return nil, nil
	}
	d, err := stack.ParseRetention(s.Retention)
	if err != nil {
		return nil, invalid(http.StatusBadRequest, "retention: %v", err)
	}
	return &d, nil
}

func (s Source) validate() error {
	switch {
	case !validName.MatchString(s.Name):
		return invalid(http.StatusBadRequest, "%q cannot be a task's name: want 1 to 100 letters, digits, _, - or ., with a letter, digit or _ first", s.Name)
	case len(s.Code) > MaxCode:
		return invalid(http.StatusRequestEntityTooLarge, "the code is %d bytes, at most %d can be published", len(s.Code), MaxCode)
	case strings.TrimSpace(s.Code) == "":
		return invalid(http.StatusUnprocessableEntity, "the code is empty")
	}
	if err := storable("code", s.Code); err != nil {
		return err
	}
	return storable("description", s.Description)
}

// storable refuses what a text column cannot hold.
func storable(what, text string) error {
	switch {
	case !utf8.ValidString(text):
		return invalid(http.StatusUnprocessableEntity, "the %s is not UTF-8 text", what)
	case strings.ContainsRune(text, 0):
		return invalid(http.StatusUnprocessableEntity, "the %s holds a NUL character", what)
	}
	return nil
}

func invalid(status int, format string, args ...any) error {
	err := service.Errorf(service.CodeInvalidTask, format, args...)
	err.Status = status
	return err
}
