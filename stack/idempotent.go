package stack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/supabase/keys"
)

// A run may be started under a key: whoever starts it again under that key gets the
// run that is there. Keys are a task's and a caller's own. Those who are not signed
// in have theirs in common, and whoever has the key and all else that was asked for
// gets the run: so their keys have to be such that nobody guesses them. Who has the
// key alone is not told which run it is, with whose id they could read it.

// CodeIdempotencyConflict is the code of the error for a key under which something
// else was asked for.
const CodeIdempotencyConflict = "IDEMPOTENCY_CONFLICT"

const (
	maxStartKey  = 255 // bytes
	secretEnough = 16  // bytes of a key of callers who are not signed in
)

// checkKey checks the key under which a run is started.
func (p StartParams) checkKey() *service.Error {
	switch {
	case p.IdempotencyKey == "":
	case len(p.IdempotencyKey) > maxStartKey || text(p.IdempotencyKey) != p.IdempotencyKey:
		return service.Errorf(service.CodeInvalidInput, "The idempotency key is a text of 1 to %d bytes without NUL.", maxStartKey)
	case p.ID != uuid.Nil:
		return service.Errorf(service.CodeInvalidInput, "A run has an id of the caller's or an idempotency key, not both.")
	case p.Caller.shares() && len(p.IdempotencyKey) < secretEnough:
		return service.Errorf(service.CodeInvalidInput,
			"From callers who are not signed in, the idempotency key has %d bytes or more: whoever has it gets the run. A random UUID will do.", secretEnough)
	}
	return nil
}

// shares reports whether others whom nobody tells apart from the caller have its keys too.
func (c Caller) shares() bool { return c.Owner == "" && c.Role != keys.RoleService }

// scope is whose key it is.
func (c Caller) scope() string {
	if c.Owner != "" {
		return strings.ToLower(c.Owner)
	}
	return c.Role
}

// hash tells what was asked for under the key, if there is one.
func (p StartParams) hash() []byte {
	if p.IdempotencyKey == "" {
		return nil
	}
	h := sha256.New()
	if p.Input == nil {
		p.Input = []byte("null")
	}
	at := int64(0)
	if !p.At.IsZero() {
		at = p.At.UnixNano()
	}
	for _, part := range [][]byte{p.Input, []byte(p.Code)} {
		_ = binary.Write(h, binary.BigEndian, int64(len(part))) // never fails
		h.Write(part)
	}
	_ = binary.Write(h, binary.BigEndian, []int64{int64(p.Priority), int64(p.Delay), at, int64(p.Timeout)})
	return h.Sum(nil)
}

// started returns the run that was started under the key of p, or uuid.Nil.
func (s *Store) started(ctx context.Context, p StartParams) (run uuid.UUID, err error) {
	var hash []byte
	err = s.pool.QueryRow(ctx, `/* started */
		select id, idempotency_hash from public.task_runs
		where task_name = @task and coalesce(owner::text, caller_role, '') = @scope and idempotency_key = @key`,
		namedArgs{"task": p.Task, "scope": p.Caller.scope(), "key": p.IdempotencyKey}).Scan(&run, &hash)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return uuid.Nil, nil
	case err != nil:
		return uuid.Nil, fmt.Errorf("look for the run of a key: %w", err)
	case !bytes.Equal(hash, p.hash()): // of a row that a client inserted there is none
		return uuid.Nil, conflict(p.Caller, run)
	}
	return run, nil
}

func conflict(c Caller, run uuid.UUID) *service.Error {
	which := ""
	if !c.shares() {
		which = ": run " + run.String()
	}
	return &service.Error{Code: CodeIdempotencyConflict, Status: http.StatusConflict,
		Message: "Under this idempotency key something else was asked for" + which + ". Give each request a key of its own, and repeat it as it was."}
}

// sameKey reports whether err says that a run's key is taken.
func sameKey(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.ConstraintName == "task_runs_idempotency_key"
}
