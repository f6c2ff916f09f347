//go:build !failpoints

package failpoint

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Enabled says whether points are compiled in.
const Enabled = false

// At is a point.
func At(string) {}

// In names the transaction that is made with the context.
func In(ctx context.Context, _ string) context.Context { return ctx }

// Trace has a connection's statements and commits be points.
func Trace(*pgx.ConnConfig) {}
