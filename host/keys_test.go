package host_test

import (
	"strings"
	"testing"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/internal/pgtest"
)

// TestRotation changes the key of a database whose hosts run, and drops the old one.
func TestRotation(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	old, fresh := newKey(t, "old"), newKey(t, "fresh")
	with := func(keys string) host.Config {
		c := ofServe(t, database)
		c.AmberKeys = keys
		return c
	}
	first := serve(t, with(old+","+fresh))
	first.awaitBegun(t)
	if err := host.New(with(newKey(t, "newest") + "," + old + "," + fresh)).Run(t.Context()); err == nil || !strings.Contains(err.Error(), `without key "newest"`) {
		t.Errorf("a host that seals with what a running host lacks: %v", err)
	}
	a := first.do(t, "POST", execute, `{"taskName":"sleep","input":300}`, service)
	id := a.text(t, "taskRunId")
	first.awaitSuspended(t)

	second := serve(t, with(fresh+","+old))
	second.awaitBegun(t)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	uses, err := host.Keys(t.Context(), with(fresh+","+old))
	if err != nil || len(uses) != 2 || uses[0].ID != "fresh" || !uses[0].Writes || uses[1].ID != "old" || uses[1].Writes || !uses[1].Known || uses[1].Replies == 0 {
		t.Errorf("Keys: %+v, %v", uses, err)
	}
	if without, err := host.Keys(t.Context(), with("")); err != nil || len(without) != 2 || without[0].Known || without[1].Known {
		t.Errorf("Keys without AMBER_KEYS: %+v, %v", without, err)
	}
	if err := host.New(with(fresh)).Run(t.Context()); err == nil || !strings.Contains(err.Error(), `"old"`) {
		t.Errorf("a host without the old key: %v", err)
	}
	if rows, err := host.Reseal(t.Context(), with(fresh), nil); err == nil || rows != 0 || !strings.Contains(err.Error(), "AMBER_KEYS") {
		t.Errorf("Reseal without the old key: %d, %v", rows, err)
	}
	var told int64
	rows, err := host.Reseal(t.Context(), with(fresh+","+old), func(n int64) { told = n })
	if err != nil || rows == 0 || told != rows {
		t.Fatalf("Reseal: %d, told %d, %v", rows, told, err)
	}
	if rows, err := host.Reseal(t.Context(), with(fresh+","+old), nil); err != nil || rows != 0 {
		t.Errorf("Reseal again: %d, %v", rows, err)
	}

	third := serve(t, with(fresh))
	third.awaitBegun(t)
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	if a := third.do(t, "GET", "/functions/v1/tasks/result/"+id, "", service, "Prefer: wait=60"); a.status != 200 || a.text(t, "status") != "completed" {
		t.Errorf("result: %d %s", a.status, a.body)
	}
	if uses, err := host.Keys(t.Context(), with(fresh)); err != nil || len(uses) != 1 || uses[0].ID != "fresh" {
		t.Errorf("Keys afterwards: %+v, %v", uses, err)
	}
}

// TestNothingOfAmbers: commands on a database that nobody has migrated say so.
func TestNothingOfAmbers(t *testing.T) {
	t.Parallel()
	c := ofServe(t, pgtest.NewEmpty(t))
	if uses, err := host.Keys(t.Context(), c); err == nil || !strings.Contains(err.Error(), "amber migrate") {
		t.Errorf("Keys: %+v, %v", uses, err)
	}
	if n, err := host.Reseal(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "amber migrate") {
		t.Errorf("Reseal: %d, %v", n, err)
	}
}
