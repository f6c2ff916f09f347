package stack

import (
	"cmp"
	"strings"

	"github.com/amberhost/amber/service"
)

// text makes s fit Postgres's text: valid UTF-8 without NUL.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// storable returns e with texts that jsonb can hold.
func storable(e *service.Error) *service.Error {
	c := *e
	c.Message, c.Name, c.Code, c.Stack = text(e.Message), text(cmp.Or(e.Name, "Error")), text(e.Code), text(e.Stack)
	return &c
}
