package stack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// maxDepth is how deep a JSON text may nest. Postgres's own limit depends on
// its stack (about 6,000 with the default max_stack_depth).
const maxDepth = 2_000

// checkJSONB reports why jsonb cannot hold the JSON text raw, naming the path:
// "$.items[3].name holds \u0000". It returns nil if it can. raw must be valid JSON.
func checkJSONB(raw json.RawMessage) error {
	c := jsonbChecker{raw: raw}
	if err := c.value(); err != nil {
		return err
	}
	return nil
}

// tooDeep reports whether a text that may be JSON nests deeper than maxDepth.
// It comes before json.Valid, which gives up at a depth of its own.
func tooDeep(raw json.RawMessage) bool {
	depth, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch b := raw[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case !quoted && (b == '[' || b == '{'):
			if depth++; depth > maxDepth {
				return true
			}
		case !quoted && (b == ']' || b == '}'):
			depth--
		}
	}
	return false
}

// jsonbChecker walks a valid JSON text once, without building it.
type jsonbChecker struct {
	raw  []byte
	pos  int
	path []string
}

func (c *jsonbChecker) errorf(format string, args ...any) error {
	return fmt.Errorf("$%s %s", strings.Join(c.path, ""), fmt.Sprintf(format, args...))
}

func (c *jsonbChecker) space() {
	for c.pos < len(c.raw) && strings.IndexByte(" \t\r\n", c.raw[c.pos]) >= 0 {
		c.pos++
	}
}

func (c *jsonbChecker) value() error {
	c.space()
	if c.pos >= len(c.raw) {
		return c.errorf("is empty")
	}
	if len(c.path) > maxDepth {
		c.path = c.path[:3]
		return c.errorf("nests deeper than %d levels", maxDepth)
	}
	switch b := c.raw[c.pos]; {
	case b == '{':
		return c.object()
	case b == '[':
		return c.array()
	case b == '"':
		_, err := c.str()
		return err
	case b == '-' || b >= '0' && b <= '9':
		return c.number()
	default: // true, false, null
		for c.pos < len(c.raw) && c.raw[c.pos] >= 'a' && c.raw[c.pos] <= 'z' {
			c.pos++
		}
		return nil
	}
}

func (c *jsonbChecker) object() error {
	for c.pos++; ; c.pos++ {
		c.space()
		if c.raw[c.pos] == '}' {
			c.pos++
			return nil
		}
		key, err := c.str()
		if err != nil {
			return err
		}
		c.space()
		c.pos++ // the colon
		c.path = append(c.path, "."+string(key))
		if err := c.value(); err != nil {
			return err
		}
		c.path = c.path[:len(c.path)-1]
		c.space()
		if c.raw[c.pos] == '}' {
			c.pos++
			return nil
		}
	}
}

func (c *jsonbChecker) array() error {
	c.pos++
	for i := 0; ; i++ {
		c.space()
		if c.raw[c.pos] == ']' {
			c.pos++
			return nil
		}
		c.path = append(c.path, "["+strconv.Itoa(i)+"]")
		if err := c.value(); err != nil {
			return err
		}
		c.path = c.path[:len(c.path)-1]
		c.space()
		if c.raw[c.pos] == ']' {
			c.pos++
			return nil
		}
		c.pos++ // the comma
	}
}

// str reads a string and returns what is between its quotes.
func (c *jsonbChecker) str() ([]byte, error) {
	c.pos++
	start := c.pos
	for c.raw[c.pos] != '"' {
		if c.raw[c.pos] != '\\' {
			c.pos++
			continue
		}
		if c.raw[c.pos+1] != 'u' {
			c.pos += 2
			continue
		}
		unit := c.unit(c.pos)
		c.pos += 6
		switch {
		case unit == 0:
			return nil, c.errorf(`holds \u0000, which Postgres's jsonb cannot store`)
		case unit >= 0xDC00 && unit <= 0xDFFF:
			return nil, c.errorf(`holds a lone surrogate \u%04x, which Postgres's jsonb cannot store`, unit)
		case unit >= 0xD800 && unit <= 0xDBFF:
			if low := c.unit(c.pos); low < 0xDC00 || low > 0xDFFF {
				return nil, c.errorf(`holds a lone surrogate \u%04x, which Postgres's jsonb cannot store`, unit)
			}
			c.pos += 6
		}
	}
	end := c.pos
	c.pos++
	return c.raw[start:end], nil
}

// unit is the UTF-16 unit of the \uXXXX escape at pos, or -1.
func (c *jsonbChecker) unit(pos int) int {
	if pos+6 > len(c.raw) || c.raw[pos] != '\\' || c.raw[pos+1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(c.raw[pos+2:pos+6]), 16, 32)
	if err != nil {
		return -1
	}
	return int(n)
}

// number checks the range of Postgres's numeric: 131,072 digits before the
// point and 16,383 after it.
func (c *jsonbChecker) number() error {
	start := c.pos
	for c.pos < len(c.raw) && strings.IndexByte("+-.eE0123456789", c.raw[c.pos]) >= 0 {
		c.pos++
	}
	text := c.raw[start:c.pos]
	mantissa, exponent := text, 0
	if i := bytes.IndexAny(text, "eE"); i >= 0 {
		var err error
		mantissa = text[:i]
		if exponent, err = strconv.Atoi(string(bytes.TrimPrefix(text[i+1:], []byte("+")))); err != nil {
			return c.errorf("is a number outside the range of Postgres's numeric")
		}
	}
	whole, fraction := len(mantissa), 0
	if i := bytes.IndexByte(mantissa, '.'); i >= 0 {
		whole, fraction = i, len(mantissa)-i-1
	}
	if whole+exponent > 131_072 || fraction-exponent > 16_383 {
		return c.errorf("is a number outside the range of Postgres's numeric")
	}
	return nil
}
