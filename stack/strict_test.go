package stack_test

import (
	"fmt"
	"testing"

	"github.com/amberhost/amber/stack"
)

// TestStrict: when a task goes on, what its calls gave has been committed by a
// transaction before; batched, it is committed with what the task does next.
func TestStrict(t *testing.T) {
	t.Parallel()
	for strict, want := range map[bool]int{false: 0, true: 5} {
		t.Run(fmt.Sprint(strict), func(t *testing.T) {
			t.Parallel()
			d := newDB(t, map[string]string{
				"child": `module.exports = (n) => n + 1`,
				"t": `module.exports = async (n, { tools }) => {
					let sum = 0;
					for (let i = 0; i < 2; i++) sum += await tools.tasks.execute('child', await tools.echo.value(i));
					try { await tools.with({ retries: 0 }).echo.fail('x') } catch { sum += 10 }
					const [a, b] = await Promise.all([tools.echo.value(100), tools.tasks.execute('child', 1000)]);
					return sum + a + b }`,
			})
			p, _ := d.host(func(c *stack.Config) { c.Strict = strict; c.Services["echo"] = echo{} })
			wantResult(t, d.run(p, "t", "null"), "1114")
			// Of calls one after the other, the reply of one and the request of the next.
			if n := d.count(`select count(*) from stack_runs c join stack_runs next
					on next.parent_stack_run_id = c.parent_stack_run_id and next.call_id = c.call_id + 1
				join amber.replies r on r.stack_run_id = c.id and r.kind = 'reply'
				join amber.replies q on q.stack_run_id = next.id and q.kind = 'request'
				where c.parent_stack_run_id = (select id from stack_runs where parent_stack_run_id is null) and c.call_id < 6 and r.xmin <> q.xmin`); n != want {
				t.Errorf("%d replies were committed before their caller went on, want %d", n, want)
			}
			if n := d.count(`select count(*) from stack_runs where not delivered and call_id is not null`); n != 0 {
				t.Errorf("%d replies were not seen", n)
			}
		})
	}
}
