package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/internal/failpoint"
	"github.com/amberhost/amber/supabase/keys"
)

var (
	// ErrClaimLost says that the row is no longer held by the caller (its lease
	// ran out, it was cancelled, another host went on). Drop the work.
	ErrClaimLost = errors.New("stack: claim lost")
	// ErrRunNotFound says that there is no task_run, and no stack_run of one, with that id.
	ErrRunNotFound = errors.New("stack: run not found")
)

// Store is the stack's tables. All methods are safe for concurrent use by any
// number of hosts.
type Store struct {
	pool   *pgxpool.Pool
	ring   *keys.Ring
	rounds rounds

	together together
}

// NewStore returns a Store on a migrated database. ring seals and opens the
// exact bytes of inputs, arguments and replies.
func NewStore(pool *pgxpool.Pool, ring *keys.Ring) *Store {
	return &Store{pool: pool, ring: ring}
}

// landTimeout bounds a write that must land although its caller is leaving.
const landTimeout = 10 * time.Second

// mustLand returns a context for such a write.
func mustLand(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), landTimeout)
}

// outlive returns a context that ends so long after ctx: statements under way
// may end. One that is cut off costs its connection, and some poolers do not
// survive the request to cancel it.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(d):
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
}

func (s *Store) tx(ctx context.Context, act string, f func(tx pgx.Tx) error) error {
	err := pgx.BeginFunc(failpoint.In(ctx, act), s.pool, f)
	if err != nil && !errors.Is(err, ErrClaimLost) {
		return fmt.Errorf("%s: %w", act, err)
	}
	return err
}

// errUnstorable marks what this package itself could not put into a statement.
var errUnstorable = errors.New("not storable")

// refused reports whether what is in a statement cannot be stored: Postgres
// understood it and refused it (data that a column cannot hold, a missing
// table), or it could not be encoded. Trying again would not help, as it would
// after a lost connection, a conflict or a shortage.
func refused(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return !passing(pg.Code)
	}
	return errors.Is(err, errUnstorable)
}

// passing reports whether a SQLSTATE is of a class that passes: connection,
// read-only, rollback, resources, state, operator, system.
func passing(code string) bool {
	return slices.Contains([]string{"08", "25", "40", "53", "55", "57", "58"}, code[:2])
}

// Unavailable reports whether err says that the database could not be reached
// or could not serve now: the caller may try again later.
func Unavailable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return passing(pg.Code)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) || errors.Is(err, io.ErrUnexpectedEOF)
}

// batch collects the statements of one transaction so that they travel together.
// Statements that must find their row either end the transaction themselves when
// they do not (amber.stop), or are queued by fenced.
type batch struct {
	pgx.Batch
	rows   rows
	host   uuid.UUID // by which rows are, and come to be, held
	looked bool      // a statement was queued by fenced: its result decides, before the commit
	lost   bool      // a fenced statement matched no row
}

// The SQLSTATEs of amber.stop.
const (
	stopLost  = "AMB01"
	stopMore  = "AMB02"
	stopTaken = "AMB03"
)

// errMore says that a transaction has more to do than a batch alone can.
var errMore = errors.New("stack: there is more to do")

// stopped is what amber.stop said, if err is that.
func stopped(err error) error {
	var pg *pgconn.PgError
	switch {
	case !errors.As(err, &pg):
	case pg.Code == stopLost:
		return ErrClaimLost
	case pg.Code == stopMore:
		return errMore
	case pg.Code == stopTaken:
		return errTaken
	}
	return err
}

// atOnce commits the statements as one transaction that goes out in one piece: what
// would have to be looked at before the commit is not in it, and ends it by itself.
func (s *Store) atOnce(ctx context.Context, act string, b *batch) error {
	if b.looked {
		return fmt.Errorf("%s: a statement has to be looked at before the commit", act)
	}
	b.flush()
	failpoint.At("commit " + act)
	err := stopped(s.pool.SendBatch(ctx, &b.Batch).Close())
	switch {
	case err == nil:
		failpoint.At("committed " + act)
	case !errors.Is(err, ErrClaimLost) && !errors.Is(err, errMore):
		err = fmt.Errorf("%s: %w", act, err)
	}
	return err
}

// fenced queues a statement that must change exactly one row.
func (b *batch) fenced(sql string, args namedArgs) {
	b.looked = true
	b.Queue(sql, args).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() != 1 {
			b.lost = true
		}
		return nil
	})
}

// send runs the statements; ErrClaimLost if a fenced one matched no row.
func (b *batch) send(ctx context.Context, tx pgx.Tx) error {
	b.flush()
	if b.Len() == 0 {
		return nil
	}
	err := stopped(tx.SendBatch(ctx, &b.Batch).Close())
	if b.lost { // whatever comes of the others: they were for a row that somebody else went on with
		return ErrClaimLost
	}
	return err
}

// newID returns a UUIDv7: ids made later sort later.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }
