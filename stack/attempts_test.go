package stack_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// TestTreeShowsAttempts: the tree tells of a call how many tries failed, and how the
// latest of them did.
func TestTreeShowsAttempts(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => {
		await tools.echo.value(1);
		return await tools.with({ retries: 9, backoff: 1 }).flaky.go() }`})
	f := &flaky{policy: quick}
	for n := range 8 {
		f.errs = append(f.errs, &service.Error{Message: fmt.Sprint("down ", n+1), Status: 503})
	}
	p, _ := d.host(func(c *stack.Config) { c.Services["flaky"] = f })
	r := d.run(p, "t", "null")
	wantResult(t, r, `9`)
	nodes, err := d.store.Tree(t.Context(), r.ID)
	if err != nil || len(nodes) != 3 {
		t.Fatalf("%d nodes, %v", len(nodes), err)
	}
	for _, n := range nodes {
		var last service.Error
		_ = json.Unmarshal(n.TryError, &last)
		if n.Service != "flaky" {
			if n.Tries != 0 || n.TryError != nil {
				t.Errorf("%s.%s has %d tries: %s", n.Service, n.Method, n.Tries, n.TryError)
			}
			continue
		}
		if n.Tries != 8 || last.Message != "down 8" || n.Late {
			t.Errorf("%d tries, the last %q, late %v", n.Tries, last.Message, n.Late)
		}
	}
}
