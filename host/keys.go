package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
)

// KeyUse says how much of the database is sealed with a key of amber's own.
type KeyUse struct {
	ID        string // as in AMBER_KEYS
	Writes    bool   // new rows are sealed with it
	Known     bool   // it is among AMBER_KEYS
	Replies   int64  // rows of amber.replies
	Snapshots int64  // rows of amber.snapshots: a run that waits has up to 16
	Waiting   int64  // runs that wait with one of those
}

// Keys returns the keys that the configured database is sealed with or that are configured.
func Keys(ctx context.Context, c Config) ([]KeyUse, error) {
	var list []KeyUse
	err := withStore(ctx, c, func(store *stack.Store) error {
		uses, err := store.KeyUse(ctx)
		for _, u := range uses {
			list = append(list, KeyUse(u))
		}
		return err
	})
	return list, err
}

// resealBatch is how many rows are sealed anew between two calls of progress.
const resealBatch = 1000

// Reseal seals with the first key what others have sealed, while hosts run,
// and returns how many rows that were. Afterwards the others can be dropped
// from AMBER_KEYS. progress, if any, hears how many they are so far.
func Reseal(ctx context.Context, c Config, progress func(rows int64)) (int64, error) {
	var total int64
	err := withStore(ctx, c, func(store *stack.Store) error {
		if err := store.CheckKeys(ctx); err != nil { // all that is needed is here, and the first is known to the database
			return c.explainKeys(err)
		}
		for {
			n, err := store.Reseal(ctx, resealBatch)
			total += int64(n)
			if err != nil || n == 0 {
				return err
			}
			if progress != nil {
				progress(total)
			}
		}
	})
	return total, err
}

// explainKeys adds to the error about a missing key which file was to have it.
func (c Config) explainKeys(err error) error {
	var missing *stack.MissingKeyError
	if c.AmberKeys != "" || !errors.As(err, &missing) {
		return err
	}
	return fmt.Errorf("%w. This host has its keys from %s: add the missing one there, behind the first and a comma", err, c.keyFile())
}

// withStore does something with the configured database, which is as it is: not migrated.
func withStore(ctx context.Context, c Config, do func(*stack.Store) error) (err error) {
	c = c.withDefaults()
	var ring *keys.Ring
	if c.AmberKeys != "" || c.DataDir != "" {
		if ring, err = openRing(c); err != nil {
			return err
		}
	}
	db, err := visitDatabase(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.close(ctx)) }()
	if err := db.openPool(ctx, c); err != nil {
		return err
	}
	err = do(stack.NewStore(db.pool, ring))
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code == undefinedTable || refused.Code == invalidSchema) {
		return errors.New("the database has nothing of amber's: `amber migrate` makes its tables")
	}
	return err
}
