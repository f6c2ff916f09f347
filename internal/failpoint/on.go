//go:build failpoints

package failpoint

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Enabled says whether points are compiled in.
const Enabled = true

// armed are the points at which this process dies, and after how many times.
var armed = struct {
	sync.Mutex
	left map[string]int
}{left: fromEnv(os.Getenv(Env))}

func fromEnv(list string) map[string]int {
	left := map[string]int{}
	for _, item := range strings.Split(list, ";") {
		if item == "" {
			continue
		}
		point, times, _ := strings.Cut(item, "=")
		n, err := strconv.Atoi(times)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "%s: %q: want POINT=N;POINT=N\n", Env, item)
			os.Exit(2)
		}
		left[point] = n
	}
	return left
}

// At is a point.
func At(point string) {
	armed.Lock()
	defer armed.Unlock()
	n, ok := armed.left[point]
	if !ok {
		return
	}
	armed.left[point] = n - 1
	if n > 1 {
		return
	}
	if path := os.Getenv(LogEnv); path != "" {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(point + "\n")
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", LogEnv, err)
			os.Exit(2)
		}
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // it dies in a moment
}

type actKey struct{}

// In names the transaction that is made with the context.
func In(ctx context.Context, act string) context.Context {
	return context.WithValue(ctx, actKey{}, act)
}

// Trace has a connection's statements and commits be points.
func Trace(c *pgx.ConnConfig) { c.Tracer = tracer{} }

type tracer struct{}

// begun is what the end of a statement has to know of its beginning.
type begun struct {
	sql   string
	alone bool // outside a transaction
}

type begunKey struct{}

func (tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	b := begun{data.SQL, conn.PgConn().TxStatus() == 'I'}
	if act, ok := ctx.Value(actKey{}).(string); ok && b.sql == "commit" {
		At("commit " + act)
	}
	if name := NameOf(b.sql); name != "" {
		At("statement " + name)
	}
	return context.WithValue(ctx, begunKey{}, b)
}

func (tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	b, _ := ctx.Value(begunKey{}).(begun)
	if data.Err != nil {
		return
	}
	if act, ok := ctx.Value(actKey{}).(string); ok && b.sql == "commit" {
		At("committed " + act)
	}
	if name := NameOf(b.sql); name != "" && b.alone {
		At("done " + name)
	}
}

func (tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (tracer) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	if name := NameOf(data.SQL); name != "" {
		At("statement " + name)
	}
}

func (tracer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
