// Package supabase reads what a Supabase project says of itself in its
// supabase/config.toml, the file of the Supabase CLI.
//
// Of the CLI's several hundred keys a host needs a handful, so the file is kept
// as it is: a value has a key, a text and the line where it stands, and what it
// means is said where it is asked for.
//
//	project, err := supabase.Read("supabase/config.toml")
//	port, ok := project.Value("api.port") // {Text: "54321", Line: 12}
package supabase

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Config is a config.toml that has been read. The zero value is an empty one.
type Config struct {
	file   string
	values []Value // in the order of the file
}

// Value is one entry of the file.
type Value struct {
	Path string // dotted: "api.port"
	Text string // of a string what is between its quotes, else as it is written
	Env  string // NAME if the text is env(NAME), the CLI's way to name a variable
	List bool   // it is an array, which has no text
	File string // as it was given to Read
	Line int    // from 1
}

// Where says where the value stands: "supabase/config.toml:14".
func (v Value) Where() string { return v.File + ":" + strconv.Itoa(v.Line) }

// Errorf returns an error about the value that begins with where it stands.
func (v Value) Errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", v.Where(), v.Path, fmt.Errorf(format, args...))
}

// Read reads a file. An error names the file, and the line if its syntax is
// wrong; it is [os.ErrNotExist] if there is none.
func Read(file string) (*Config, error) {
	if err := wantFile(file); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(file, text)
}

// Parse is Read for a text at hand; file is its name in messages.
func Parse(file string, text []byte) (*Config, error) {
	var whole map[string]any // checks what a reader of single lines does not see, such as a key that is there twice
	if err := toml.Unmarshal(text, &whole); err != nil {
		var wrong *toml.DecodeError
		if errors.As(err, &wrong) {
			line, column := wrong.Position()
			return nil, fmt.Errorf("%s:%d:%d: %s", file, line, column, strings.TrimPrefix(wrong.Error(), "toml: "))
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	c := &Config{file: file}
	c.read(text)
	return c, nil
}

// File is the name of the file, "" if there was none.
func (c *Config) File() string { return c.file }

// Value returns the value at a dotted path.
func (c *Config) Value(path string) (Value, bool) {
	i := slices.IndexFunc(c.values, func(v Value) bool { return v.Path == path })
	if i < 0 {
		return Value{}, false
	}
	return c.values[i], true
}

// Below returns the values whose paths begin with that of a table, in the order of the file.
func (c *Config) Below(table string) []Value {
	var found []Value
	for _, v := range c.values {
		if strings.HasPrefix(v.Path, table+".") {
			found = append(found, v)
		}
	}
	return found
}

// read collects the values of a text that is known to be right.
func (c *Config) read(text []byte) {
	var p unstable.Parser
	p.Reset(text)
	table := ""
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, _ = c.path(&p, "", e)
		case unstable.KeyValue:
			c.add(&p, table, e)
		}
	}
}

// add adds a key with its value, and those inside if the value is a table.
func (c *Config) add(p *unstable.Parser, table string, pair *unstable.Node) {
	path, line := c.path(p, table, pair)
	v := Value{Path: path, File: c.file, Line: line}
	switch value := pair.Value(); value.Kind {
	case unstable.InlineTable:
		for pairs := value.Children(); pairs.Next(); {
			c.add(p, path, pairs.Node())
		}
		return
	case unstable.Array:
		v.List = true
	case unstable.String:
		v.Text = string(value.Data)
		if m := environment.FindStringSubmatch(v.Text); m != nil {
			v.Env = m[1]
		}
	case unstable.Integer:
		v.Text = strings.ReplaceAll(string(value.Data), "_", "")
	default:
		v.Text = string(value.Data)
	}
	c.values = append(c.values, v)
}

var environment = regexp.MustCompile(`^env\(([^)]+)\)$`)

// path returns the dotted path of a table or key, and its line.
func (c *Config) path(p *unstable.Parser, table string, n *unstable.Node) (path string, line int) {
	parts := []string{}
	if table != "" {
		parts = append(parts, table)
	}
	for keys := n.Key(); keys.Next(); {
		key := keys.Node()
		parts = append(parts, string(key.Data))
		line = p.Shape(key.Raw).Start.Line
	}
	return strings.Join(parts, "."), line
}
