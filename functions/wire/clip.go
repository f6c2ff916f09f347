package wire

import "strings"

const maxEcho = 200

// Clip shortens what a client sent before it is said back to them.
func Clip(s string) string {
	if len(s) <= maxEcho {
		return s
	}
	return strings.ToValidUTF8(s[:maxEcho], "") + "…"
}
