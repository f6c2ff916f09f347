package stack_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

// shots are what real engines made of real tasks, and the engines of hosts.
type shots struct {
	key, increment *vm.Snapshot
	other          vm.Digest
	engines        [][]string // of hosts of each sort
}

// of is a snapshot of a body, with its number.
func (s shots) of(body uuid.UUID, sequence int64, increment, other bool) *vm.Snapshot {
	from := s.key
	if increment {
		from = s.increment
	}
	snap := *from
	snap.Frame, snap.Sequence = body, uint64(sequence)
	if other {
		snap.Engine = s.other
	}
	return &snap
}

// takeShots has the engine suspend a small body, and one that holds so much that
// its second snapshot is an increment.
func takeShots(t *testing.T) shots {
	t.Helper()
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	begin := func(code, input string) *vm.Outcome {
		out, err := e.Start(t.Context(), vm.StartParams{Frame: uuid.New(), Name: "shot", Code: code, Input: []byte(input)})
		if err != nil || out.Snapshot == nil {
			t.Fatal(err, out)
		}
		return out
	}
	s := shots{key: begin(`module.exports = (i, { tools }) => tools.echo.value(1)`, `null`).Snapshot, other: vm.Digest{1}}
	first := begin(largeTask, `{"times":9}`)
	frame := first.Snapshot.Frame
	second, err := e.Resume(t.Context(), frame, first.Snapshot, []vm.Reply{{ID: first.Calls[0].ID, Reply: service.Reply{Value: []byte(`0`)}}})
	if err != nil || second.Snapshot == nil || !second.Snapshot.Increment() {
		t.Fatal("a large body's second snapshot is no increment", err)
	}
	s.increment = second.Snapshot
	own, other := e.Identity(), s.other.String()
	s.engines = [][]string{{own}, {own, other}, {other}, {own, other}} // the last has little memory
	return s
}
