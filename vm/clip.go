package vm

import (
	"unicode/utf8"

	"github.com/amberhost/amber/service"
)

// What a task may say in an error, in bytes.
const (
	maxErrorWord    = 256 // a name, a code
	maxErrorMessage = 8 << 10
	maxErrorStack   = 32 << 10
)

// clip bounds a text in bytes, between two characters, and ends it with mark
// where something is missing.
func clip(text string, most int, mark string) string {
	if len(text) <= most {
		return text
	}
	end := most - len(mark)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + mark
}

func clipError(e service.Error) *service.Error {
	const mark = "… (clipped)"
	e.Name, e.Code = clip(e.Name, maxErrorWord, mark), clip(e.Code, maxErrorWord, mark)
	e.Message, e.Stack = clip(e.Message, maxErrorMessage, mark), clip(e.Stack, maxErrorStack, mark)
	return &e
}
