package ledger

import (
	"maps"
	"slices"
	"strings"
)

// awkward are JSON texts, compact, that something on the way from a service to
// a task, and from one task to another, might spell differently.
var awkward = map[string]string{
	"null":        `null`,
	"empty":       `["",[],{},[[]],{"":{}}]`,
	"minus-zero":  `-0`,
	"minus-zeros": `{"a":[-0,0,-0.0,-0e5],"b":"-0"}`,
	"big":         `[9007199254740993,-9007199254740993,18446744073709551616,123456789012345678901234567890]`,
	"range":       `[5e-324,1e-7,0.000001,1e21,123456789012345680000,1.7976931348623157e308,1e400,-1e400,0.1,100]`,
	"keys":        `{"b":1,"a":2,"10":3,"2":4,"__proto__":5,"constructor":6,"":7,"a":8,"B":9,"then":10,"toJSON":11}`,
	"escapes":     `["\\u0000","\\ud800","\/","\u00e9","\u2028","\ud83d\udc22","<&>","\u007f","\"\\\b\f\n\r\t\u001f","%s %d"]`,
	"unicode":     "[\"żółw 🐢\",\"\u2028\u2029\",\"e\u0301\",\"\u202e\",\"\ufeff\",\"\U0010ffff\",\"\uffff\"]",
	"deep":        strings.Repeat("[", 300) + strings.Repeat("]", 300),
	"deep-keys":   strings.Repeat(`{"k":`, 200) + `-0` + strings.Repeat("}", 200),
	"long":        `"` + strings.Repeat("0123456789 żółw 🐢\\u00e9", 800) + `"`,
	"wide":        "[" + strings.Repeat(`{"id":1234567890123456789,"x":-0},`, 40) + "null]",

	// Postgres's jsonb holds none of these: the stack refuses the answer.
	"nul":            `"a\u0000b"`,
	"nul-key":        `{"\u0000":1}`,
	"surrogate":      `["\ud800"]`,
	"surrogate-low":  `{"\udc00":1}`,
	"surrogate-pair": `"\ud83d\ud83d\udc22"`,
}

var refused = []string{"nul", "nul-key", "surrogate", "surrogate-low", "surrogate-pair"}

// Awkward returns the JSON text of an awkward value, "" if there is none of
// that name.
func Awkward(name string) string { return awkward[name] }

// AwkwardNames returns the names of all awkward values, sorted.
func AwkwardNames() []string { return slices.Sorted(maps.Keys(awkward)) }

// Refused reports whether an answer with that awkward value cannot be stored: a
// task sees the error INVALID_RESULT in its place.
func Refused(name string) bool { return slices.Contains(refused, name) }
