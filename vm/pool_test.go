package vm

import (
	"testing"

	"github.com/google/uuid"
)

// TestListsOfIdleVMs: what an idle VM keeps besides its memory, to be reset
// faster, counts, and is little, however much of its memory a task has changed.
func TestListsOfIdleVMs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code string
		list bool // is kept
	}{
		"small":     {`module.exports = async () => { const kept = [1]; await tools.a.b(); return kept }`, true},
		"scattered": {`module.exports = async () => { ` + scatter + ` await tools.a.b(); return kept }`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := soloEngine(t, Limits{})
			spare, err := e.take(t.Context(), e.base, uint32(len(e.base.memory)))
			if err != nil {
				t.Fatal(err)
			}
			out, err := e.Start(t.Context(), StartParams{Frame: uuid.New(), Name: "t", Code: c.code})
			if err != nil || out.Snapshot == nil {
				t.Fatal(err, out)
			}
			used := idleVM(t, e, out.Snapshot.Size)
			memory, list := uint64(used.memory.Size()), uint64(cap(used.changes))*8
			if used.known != c.list || (list > 0) != c.list || list > memory/32 {
				t.Errorf("a VM of %d bytes keeps a list of %d, and knows its changes: %v", memory, list, used.known)
			}
			e.pool.refills.Wait()
			for _, s := range e.pool.idle {
				if s != used {
					memory += uint64(s.memory.Size())
				}
			}
			if _, idle, kept := e.VMs(); kept != memory+list {
				t.Errorf("%d idle VMs of %d bytes and a list of %d count as %d", idle, memory, list, kept)
			}
			e.pool.most = memory + list + uint64(spare.memory.Size()) - 1
			before := e.pool.live.Load()
			e.give(t.Context(), spare)
			if live, _, kept := e.VMs(); live != int(before)-1 || kept > e.pool.most {
				t.Errorf("%d VMs of %d are there, in %d bytes of %d; one should have gone", live, before, kept, e.pool.most)
			}
		})
	}
}
