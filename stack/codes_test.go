package stack_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/internal/failpoint"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// statements counts those of one name that are sent alone.
type statements struct {
	name string
	n    *atomic.Int64
}

func (s statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if failpoint.NameOf(data.SQL) == s.name {
		s.n.Add(1)
	}
	return ctx
}

func (statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// publisher changes the task child.
type publisher struct{ d *db }

func (p publisher) Call(ctx context.Context, c service.Call, _ service.Meta) (json.RawMessage, error) {
	if c.Method() == "none" {
		p.d.exec(`delete from task_functions where name = 'child'`)
		return nil, nil
	}
	_, err := p.d.store.Publish(ctx, stack.Task{Name: "child", Code: `module.exports = () => 2`})
	return nil, err
}

// TestCodes: a nested task runs the code that is published when it is called, also
// when this process has run another before; and the code is read once.
func TestCodes(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"child": `module.exports = () => 1`,
		"parent": `module.exports = async (n, { tools }) => {
			const saw = [];
			for (let i = 0; i < 5; i++) saw.push(await tools.tasks.execute('child'));
			await tools.publish.code();
			for (let i = 0; i < 5; i++) saw.push(await tools.tasks.execute('child'));
			await tools.publish.none();
			try { await tools.tasks.execute('child') } catch (e) { saw.push(e.code) }
			return saw }`,
	})
	var reads atomic.Int64
	cfg, err := pgxpool.ParseConfig(d.dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.Tracer = statements{"Task", &reads}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	p, stop := d.host(func(c *stack.Config) {
		c.Store, c.Services["publish"] = stack.NewStore(pool, ring(t)), publisher{d}
	})
	defer stop()
	wantResult(t, d.run(p, "parent", "null"), `[1,1,1,1,1,2,2,2,2,2,"TASK_NOT_FOUND"]`)
	if n := reads.Load(); n != 4 { // the parent's start, the child's two codes, and that it is gone
		t.Errorf("tasks were read %d times, want 4", n)
	}
}
