package supabase

import (
	"slices"
	"strings"
)

// Function is what the project says of one of its edge functions: [functions.<name>].
type Function struct {
	Name     string
	Disabled bool   // enabled = false: it is as if it were not there
	Open     bool   // verify_jwt = false: whoever calls it needs no key
	Where    string // the line that opens it; "" if none does
}

// Functions returns the functions that the project mentions, in the order of
// the file. An error names the line.
func (c *Config) Functions() ([]Function, error) {
	var list []Function
	for _, v := range c.Below("functions") {
		name, key, _ := strings.Cut(strings.TrimPrefix(v.Path, "functions."), ".")
		if key != "enabled" && key != "verify_jwt" {
			continue // the CLI's affair: import_map, entrypoint, ...
		}
		if v.Text != "true" && v.Text != "false" || v.List {
			return nil, v.Errorf("%q is neither true nor false", v.Text)
		}
		i := slices.IndexFunc(list, func(f Function) bool { return f.Name == name })
		if i < 0 {
			i = len(list)
			list = append(list, Function{Name: name})
		}
		switch f, no := &list[i], v.Text == "false"; {
		case key == "enabled":
			f.Disabled = no
		case no:
			f.Open, f.Where = true, v.Where()
		}
	}
	return list, nil
}
