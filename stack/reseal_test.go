package stack_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
)

const newKey = "new:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="

// withRing makes a host use another ring, for snapshots too.
func (d *db) withRing(entries string) (*stack.Store, func(*stack.Config)) {
	d.t.Helper()
	ring, err := keys.ParseRing(entries)
	if err != nil {
		d.t.Fatal(err)
	}
	e, err := newEngine(ring)
	if err != nil {
		d.t.Fatal(err)
	}
	store := stack.NewStore(d.pool, ring)
	return store, func(c *stack.Config) { c.Store, c.Engine = store, e }
}

// TestKeysRotate on live data: hosts that write with the old and with the new
// key share runs, everything is sealed anew while they work, and a host with
// the new key alone ends what others suspended.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"double": `module.exports = async ({ n }) => n * 2`,
		"busy": `module.exports = async ({ n }, { tools }) => { let s = 0;
			for (let i = 0; i < 12; i++) s += await tools.echo.value(n) + await tools.tasks.execute('double', { n: 1 });
			return s }`,
		"sleeper": `module.exports = async ({ n }, { tools }) => { const kept = { n }; await tools.sleep(3600000); return [kept.n, await tools.tasks.execute('double', { n })] }`,
	})
	_, oldFirst := d.withRing(testKey + "," + newKey)
	store, newFirst := d.withRing(newKey + "," + testKey)
	_, newOnly := d.withRing(newKey)
	a, stopOld := d.host(oldFirst)
	_, stopNew := d.host(newFirst)

	var busy, sleeping []uuid.UUID
	for n := range 16 {
		sleeping = append(sleeping, d.enqueue("sleeper", fmt.Sprintf(`{"n":%d}`, n)))
		busy = append(busy, d.enqueue("busy", fmt.Sprintf(`{"n":%d}`, n)))
	}
	d.eventually("the sleepers sleep", func() bool { return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == 16 })
	for range 20 { // while bodies run
		if _, err := store.Reseal(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
	}
	for n, id := range busy {
		wantResult(t, d.wait(a, id), fmt.Sprint(12*n+24))
	}
	stopOld() // nobody seals with the old key any more
	for {
		n, err := store.Reseal(t.Context(), 50)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		if n > 50 {
			t.Errorf("%d rows at once, asked for 50", n)
		}
	}
	uses, err := store.KeyUse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(uses) != 2 || uses[0].ID != "new" || !uses[0].Writes || uses[0].Snapshots != 16 || uses[0].Waiting != int64(len(sleeping)) || uses[0].Replies == 0 ||
		uses[1] != (stack.KeyUse{ID: "test", Known: true}) {
		t.Errorf("uses: %+v", uses)
	}
	if n := d.count(`select count(*) from amber.keys where id = 'test'`); n != 0 {
		t.Error("the old key is not forgotten")
	}
	c, _ := d.host(newOnly) // beside one that has both
	stopNew()
	d.exec(`update stack_runs set due_at = now() where status = 'sleeping'`)
	for n, id := range sleeping {
		wantResult(t, d.wait(c, id), fmt.Sprintf(`[%d,%d]`, n, 2*n))
	}
	if n := d.count(`select count(*) from task_runs where stuck_reason is not null or status <> 'completed'`); n != 0 {
		t.Errorf("%d runs are stuck\n%s", n, d.dump())
	}
}

// TestResealWhatCannotBeOpened: a damaged row does not keep the others from
// being sealed anew, and the key that it needs is kept.
func TestResealWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"sleeper": `module.exports = async (i, { tools }) => await tools.sleep(3600000)`})
	p, stop := d.host(nil)
	for range 3 {
		if _, err := p.Start(t.Context(), stack.StartParams{Task: "sleeper", Input: json.RawMessage(`1`)}); err != nil {
			t.Fatal(err)
		}
	}
	d.eventually("they sleep", func() bool { return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == 3 })
	stop()
	for _, table := range []string{"replies", "snapshots"} {
		d.exec(`update amber.` + table + ` set data = set_byte(data, octet_length(data) - 3, 255 - get_byte(data, octet_length(data) - 3))
			where stack_run_id = (select min(stack_run_id::text)::uuid from amber.snapshots)`)
	}
	store, _ := d.withRing(newKey + "," + testKey)
	if n, err := store.Reseal(t.Context(), 100); n != 7 || err != nil { // 3 runs, each with a body, its snapshot and a call; 2 rows damaged
		t.Errorf("%d rows sealed anew, want 7 (%v)", n, err)
	}
	if n, err := store.Reseal(t.Context(), 100); n != 0 || err == nil || !strings.Contains(err.Error(), "2 rows cannot be sealed anew; the first: the request of stack run") {
		t.Errorf("%d %v", n, err)
	}
	uses, err := store.KeyUse(t.Context())
	if err != nil || !slices.ContainsFunc(uses, func(u stack.KeyUse) bool {
		return u.ID == "test" && u.Replies == 1 && u.Snapshots == 1 && u.Waiting == 1
	}) {
		t.Errorf("%+v %v", uses, err)
	}
}

// TestKeysOfLiveHosts: a host without the key of one that runs refuses to
// start, though nothing is sealed with it yet; and a key that was forgotten too
// early is noted again.
func TestKeysOfLiveHosts(t *testing.T) {
	t.Parallel()
	d := newDB(t, nil)
	_, stop := d.host(func(c *stack.Config) { c.Lease = 600 * time.Millisecond })
	store, _ := d.withRing(newKey)
	if err := store.CheckKeys(t.Context()); err == nil || !strings.Contains(err.Error(), `sealed with key "test", which this host does not have`) {
		t.Errorf("beside a host with another key: %v", err)
	}
	d.exec(`delete from amber.keys`)
	d.eventually("the key is noted again", func() bool { return d.count(`select count(*) from amber.keys where id = 'test'`) == 1 })
	stop()
	if err := store.CheckKeys(t.Context()); err != nil {
		t.Errorf("a key that seals nothing: %v", err)
	}
}
