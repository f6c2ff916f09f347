package stack

import (
	"context"
	"fmt"
)

// A body may take its host down: whatever the reason, it must not take down one
// host after another. Hosts that are lost leave behind what they held, and Reap
// counts that for each body that was running. A body of which a host was lost
// twice is suspected: from then on a host works for one suspect at a time, so that
// the others are not counted with it. One that is counted quarantineAfter times
// is parked. Progress clears it: what counts are losses since the body's last
// snapshot.

const quarantineAfter = 5

// suspectSQL holds if the row s is suspected.
const suspectSQL = `exists (select from amber.crashes c where c.stack_run_id = s.id and c.sequence = s.sequence and c.times >= 2)`

// forgetCounts forgets what is counted of what has ended.
func (s *Store) forgetCounts(ctx context.Context) error {
	if err := s.forgetNested(ctx); err != nil {
		return err
	}
	return s.forgetCrashes(ctx)
}

// forgetCrashes forgets what has made progress since, or has ended.
func (s *Store) forgetCrashes(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `/* forgetCrashes */
		delete from amber.crashes c where not exists (
			select from public.stack_runs s where s.id = c.stack_run_id and s.sequence = c.sequence
				and s.status not in ('completed', 'failed', 'cancelled'))`, namedArgs{})
	if err != nil {
		return fmt.Errorf("forget crashes: %w", err)
	}
	return nil
}
