package stack_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/vm"
)

// TestBusyEngine: runs that the engine turns away, since too many wait there, are
// given back and go on later: none is stuck or lost.
func TestBusyEngine(t *testing.T) {
	t.Parallel()
	e, err := vm.New(t.Context(), vm.Options{CacheDir: engineCache(), Keys: ring(t), Concurrency: 1, Queue: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	d := newDB(t, map[string]string{"busy": `module.exports = async ({ n }, { tools }) => { for (let i = 0; i < 3e5; i++); return await tools.echo.value(n) }`})
	p, _ := d.host(func(c *stack.Config) { c.Engine = e })
	var runs []uuid.UUID
	for n := range 12 {
		runs = append(runs, d.enqueue("busy", fmt.Sprintf(`{"n":%d}`, n)))
	}
	for n, id := range runs {
		wantResult(t, d.wait(p, id), fmt.Sprint(n))
	}
}
