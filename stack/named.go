package stack

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
)

// namedArgs are the arguments of a statement, by the names that it has for them: @name.
// They are pgx.StrictNamedArgs, but that a statement's text is read once and not
// each time: that took as long as all else that pgx does for it.
type namedArgs map[string]any

// positions are texts with $1, $2, …, and the names that these stand for, by the
// text with names. Statements are constants of this package: there are some hundred.
var positions sync.Map

type position struct {
	sql   string
	names []string
}

// RewriteQuery implements pgx.QueryRewriter.
func (n namedArgs) RewriteQuery(ctx context.Context, conn *pgx.Conn, sql string, _ []any) (string, []any, error) {
	known, ok := positions.Load(sql)
	if !ok {
		p, err := n.positions(ctx, conn, sql)
		if err != nil {
			return "", nil, err
		}
		known, _ = positions.LoadOrStore(sql, p)
	}
	p := known.(position)
	if len(n) != len(p.names) {
		return "", nil, fmt.Errorf("%d arguments for the %d names %v in %s", len(n), len(p.names), p.names, sql)
	}
	args := make([]any, len(p.names))
	for i, name := range p.names {
		if args[i], ok = n[name]; !ok {
			return "", nil, fmt.Errorf("no argument @%s for %s", name, sql)
		}
	}
	return p.sql, args, nil
}

// positions has pgx read the text: with names for arguments it returns them in order.
func (n namedArgs) positions(ctx context.Context, conn *pgx.Conn, sql string) (position, error) {
	names := make(pgx.StrictNamedArgs, len(n))
	for name := range n {
		names[name] = name
	}
	text, args, err := names.RewriteQuery(ctx, conn, sql, nil)
	if err != nil {
		return position{}, err
	}
	p := position{sql: text}
	for _, arg := range args {
		p.names = append(p.names, arg.(string))
	}
	return p, nil
}
