package host

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/stack"
)

// Pooler says what is between a host and its Postgres.
type Pooler string

// The kinds of [Pooler].
const (
	PoolerAuto        Pooler = "auto"        // find out at the start
	PoolerDirect      Pooler = "direct"      // nothing: Postgres itself
	PoolerSession     Pooler = "session"     // a pooler that gives each connection a session of its own
	PoolerTransaction Pooler = "transaction" // one that gives it any session for each transaction: nothing of a session lasts
)

// transactionPort is where Supabase's poolers, of either make, are in transaction mode.
const transactionPort = 6543

// suit makes a configuration fit for a pooler: on a connection that is another
// session for each transaction, no prepared statement has a name; on others, each
// is planned once.
func (p Pooler) suit(config *pgxpool.Config) *pgxpool.Config {
	if p == PoolerTransaction {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	} else {
		stack.PlanOnce(config)
	}
	return config
}

// polls reports whether nobody can listen through the pooler.
func (p Pooler) polls() bool { return p == PoolerTransaction }

// findPooler finds out what is in front of a database. Postgres tells each
// connection its process id, and a pooler tells one that it made up. Of the
// poolers, those that move a connection between sessions show it when two
// connections take turns.
func findPooler(ctx context.Context, config *pgx.ConnConfig) (Pooler, error) {
	for _, s := range serversOf(&config.Config) {
		if s.port == transactionPort {
			return PoolerTransaction, nil
		}
	}
	a, err := dialProbe(ctx, config)
	if err != nil {
		return "", err
	}
	defer a.close(ctx)
	first, err := a.session(ctx)
	if err != nil {
		return "", err
	}
	if first == a.conn.PgConn().PID() {
		return PoolerDirect, nil
	}
	b, err := dialProbe(ctx, config)
	if err != nil {
		return "", err
	}
	defer b.close(ctx)
	last := map[*probe]uint32{a: first}
	for _, p := range []*probe{b, a, a, b, b, a, b, a} { // not in turns alone: so does a pooler that goes round
		pid, err := p.session(ctx)
		if err != nil {
			return "", err
		}
		other := a
		if p == a {
			other = b
		}
		if last[p] != 0 && last[p] != pid || last[other] == pid {
			return PoolerTransaction, nil
		}
		last[p] = pid
	}
	return PoolerSession, nil
}

// probe is a connection that asks which session it has.
type probe struct{ conn *pgx.Conn }

func dialProbe(ctx context.Context, config *pgx.ConnConfig) (*probe, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("find the pooler: %w", err)
	}
	return &probe{conn}, nil
}

// session returns the process id of the session that runs this statement.
func (p *probe) session(ctx context.Context) (pid uint32, err error) {
	err = p.conn.QueryRow(ctx, `select pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&pid)
	if err != nil {
		return 0, fmt.Errorf("find the pooler: %w", err)
	}
	return pid, nil
}

func (p *probe) close(ctx context.Context) { _ = p.conn.Close(context.WithoutCancel(ctx)) }
