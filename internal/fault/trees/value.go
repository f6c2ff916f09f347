package trees

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// A value is what JSON.parse makes: nil, bool, float64, string, []any or
// *object. Strings have no lone surrogates: the stack lets none through.

// object is a JavaScript object: its keys have an order.
type object struct {
	keys   []string // as they were first set
	values map[string]any
}

func newObject(pairs ...any) *object {
	o := &object{values: map[string]any{}}
	for i := 0; i < len(pairs); i += 2 {
		o.set(pairs[i].(string), pairs[i+1])
	}
	return o
}

func (o *object) set(key string, value any) {
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = value
}

// order is that of Object.keys: array indices first, by number.
func (o *object) order() []string {
	var indices []uint64
	var rest []string
	for _, k := range o.keys {
		if n, err := strconv.ParseUint(k, 10, 32); err == nil && n < math.MaxUint32 && strconv.FormatUint(n, 10) == k {
			indices = append(indices, n)
		} else {
			rest = append(rest, k)
		}
	}
	slices.Sort(indices)
	keys := make([]string, 0, len(o.keys))
	for _, n := range indices {
		keys = append(keys, strconv.FormatUint(n, 10))
	}
	return append(keys, rest...)
}

// parse is JSON.parse.
func parse(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	v, err := parseNext(dec)
	if err != nil {
		return nil, fmt.Errorf("parse value: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("parse value: more than one JSON text")
	}
	return v, nil
}

func parseNext(dec *json.Decoder) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Number:
		f, err := strconv.ParseFloat(t.String(), 64)
		if errors.Is(err, strconv.ErrRange) {
			err = nil // infinite, as in JavaScript
		}
		return f, err
	case json.Delim:
		if t == '[' {
			return parseArray(dec)
		}
		return parseObject(dec)
	}
	return token, nil
}

func parseArray(dec *json.Decoder) (any, error) {
	list := []any{}
	for dec.More() {
		v, err := parseNext(dec)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := dec.Token()
	return list, err
}

func parseObject(dec *json.Decoder) (any, error) {
	o := newObject()
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		v, err := parseNext(dec)
		if err != nil {
			return nil, err
		}
		o.set(key.(string), v)
	}
	_, err := dec.Token()
	return o, err
}

// spell is spell of play.js, and stringify is JSON.stringify.
func spell(v any) string     { return string(write(nil, v, true)) }
func stringify(v any) string { return string(write(nil, v, false)) }

func write(b []byte, v any, exact bool) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case float64:
		return append(b, number(v, exact)...)
	case string:
		return append(b, quote(v)...)
	case []any:
		b = append(b, '[')
		for i, item := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = write(b, item, exact)
		}
		return append(b, ']')
	case *object:
		b = append(b, '{')
		for i, key := range v.order() {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(b, quote(key)...), ':')
			b = write(b, v.values[key], exact)
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("trees: %T is no value", v))
}

// number is Number.prototype.toString; if it need not be exact, as JSON has it.
func number(f float64, exact bool) string {
	switch {
	case f == 0 && math.Signbit(f) && exact:
		return "-0"
	case f == 0:
		return "0"
	case math.IsInf(f, 0) && !exact:
		return "null"
	case math.IsInf(f, 0):
		return strings.TrimPrefix(strconv.FormatFloat(f, 'g', -1, 64), "+") + "inity"
	case f < 0:
		return "-" + number(-f, exact)
	}
	// d.ddde±x, the shortest digits that give f
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	digits := strings.Replace(mantissa, ".", "", 1)
	x, _ := strconv.Atoi(exponent)
	k, n := len(digits), x+1
	switch {
	case k <= n && n <= 21:
		return digits + strings.Repeat("0", n-k)
	case 0 < n && n <= 21:
		return digits[:n] + "." + digits[n:]
	case -6 < n && n <= 0:
		return "0." + strings.Repeat("0", -n) + digits
	}
	if k > 1 {
		digits = digits[:1] + "." + digits[1:]
	}
	return digits + "e" + map[bool]string{true: "+", false: ""}[x > 0] + strconv.Itoa(x)
}

// quote is JSON.stringify of a string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch short := strings.IndexRune("\"\\\b\f\n\r\t", r); {
		case short >= 0:
			b.WriteByte('\\')
			b.WriteByte(`"\bfnrt`[short])
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// through is what a value is after JSON.stringify and JSON.parse.
func through(v any) any {
	switch v := v.(type) {
	case float64:
		switch {
		case v == 0:
			return 0.0
		case math.IsInf(v, 0):
			return nil
		}
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = through(item)
		}
		return list
	case *object:
		o := newObject()
		for _, key := range v.keys {
			o.set(key, through(v.values[key]))
		}
		return o
	}
	return v
}

// equal compares values as jsonb does: keys have no order, -0 is 0.
func equal(a, b any) bool {
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case *object:
		b, ok := b.(*object)
		if !ok || len(a.values) != len(b.values) {
			return false
		}
		for key, v := range a.values {
			other, ok := b.values[key]
			if !ok || !equal(v, other) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []any, *object: // which == cannot compare
		return false
	}
	return a == b
}

// What play.js shows of a text and keeps of a value, in UTF-16 units.
const (
	shown = 120
	kept  = 4000
)

// digest is digest of play.js.
func digest(text string) string {
	units := utf16.Encode([]rune(text))
	if len(units) <= shown {
		return text
	}
	a, b := uint32(0x811c9dc5), uint32(0)
	for _, c := range units {
		a = (a ^ uint32(c)) * 16777619
		b = (b ^ uint32(c)) * 0x5bd1e995
		b ^= b >> 15
	}
	return fmt.Sprintf("%d:%08x%08x", len(units), a, b)
}

// keep is keep of play.js.
func keep(v any) any {
	text := spell(v)
	if len(text) <= kept || len(utf16.Encode([]rune(text))) <= kept {
		return v
	}
	return digest(text)
}

// SameJSON reports whether two JSON texts are the same value, as jsonb and
// JavaScript compare them: the order of keys and the sign of 0 do not count.
func SameJSON(a, b []byte) bool {
	x, err := parse(a)
	if err != nil {
		return false
	}
	y, err := parse(b)
	return err == nil && equal(x, y)
}
