package stack_test

import (
	"maps"
	"slices"
	"testing"
)

// TestLongBodiesCostNoMore: what a call of a body costs does not depend on how many
// it has made before.
func TestLongBodiesCostNoMore(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"double": `module.exports = async ({ n }) => n * 2`,
		"long": `module.exports = async ({ times }, { tools }) => {
			for (let n = 0; n < times; n++) {
				const clock = setTimeout(() => {}, 60e3);
				await tools.echo.value(n);
				clearTimeout(clock);
				await tools.tasks.execute('double', { n });
				if (n % 10 === 0) await tools.sleep(1);
			}
			return times }`,
	})
	run := func(times string) map[string]plan {
		e, p := d.explained()
		host, stop := e.host(nil)
		wantResult(t, e.run(host, "long", `{"times":`+times+`}`), times)
		stop()
		all, err := p.taken()
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	few := run("30")
	d.exec(`analyze`) // as autovacuum does when there are some rows, and not again for a minute
	many := run("400")
	// What is dead and not yet vacuumed is more or less: the row of a body is written
	// at each of its calls. A search among all calls would look at 800 rows and more.
	for _, name := range slices.Sorted(maps.Keys(many)) {
		if f, m := few[name], many[name]; m.pages > 3*f.pages+150 || m.rows > 3*f.rows+250 {
			t.Errorf("%s looks at %d pages and %d rows, and in a short run at %d and %d:\n%s", name, m.pages, m.rows, f.pages, f.rows, m.text)
		}
	}
}
