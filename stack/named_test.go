package stack

import (
	"slices"
	"strings"
	"testing"
)

// TestNamedArgs: each name has its place whatever the order of the arguments, and
// those that are missing or too many are said.
func TestNamedArgs(t *testing.T) {
	const sql = `select @b::int + @a::int, @b, '@c'`
	for range 2 { // read, and known
		text, args, err := namedArgs{"a": 1, "b": 2}.RewriteQuery(t.Context(), nil, sql, nil)
		if err != nil || text != `select $1::int + $2::int, $1, '@c'` || !slices.Equal(args, []any{2, 1}) {
			t.Fatalf("%s %v %v", text, args, err)
		}
		for _, c := range []struct {
			args namedArgs
			want string
		}{{namedArgs{"a": 1, "d": 2}, "@b"}, {namedArgs{"a": 1}, "1 arguments for the 2 names"}, {namedArgs{"a": 1, "b": 2, "d": 3}, "3 arguments for the 2 names"}} {
			if _, _, err := c.args.RewriteQuery(t.Context(), nil, sql, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: %v, want %q", c.args, err, c.want)
			}
		}
	}
}
