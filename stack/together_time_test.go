package stack

import (
	"context"
	"errors"
	"testing"

	"github.com/amberhost/amber/vm"
)

// TestTogetherOutOfTime: whoever has waited for all the time that it had leaves the
// group to the next, and takes nobody along.
func TestTogetherOutOfTime(t *testing.T) {
	together := &together{groups: groupsAtOnce}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := together.suspend(ctx, nil, Host{}, Suspension{Snapshot: new(vm.Snapshot)}) // nothing is sent: there is no store
		failed <- err
	}()
	for waits := 0; waits == 0; {
		together.mu.Lock()
		waits = len(together.waiting)
		together.mu.Unlock()
	}
	next := &suspending{leads: make(chan bool, 1)}
	together.mu.Lock()
	together.waiting = append(together.waiting, next)
	together.mu.Unlock()
	together.leave()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("it was committed: %v", err)
	}
	if !<-next.leads {
		t.Error("the next one does not lead")
	}
	if together.groups != groupsAtOnce {
		t.Errorf("%d groups are under way, want %d", together.groups, groupsAtOnce)
	}
}
