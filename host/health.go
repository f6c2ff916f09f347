package host

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/amberhost/amber/functions/wire"
)

// How long a probe waits for the database: a liveness probe must be quicker than
// whoever asks is patient, which is a second in many a place.
const (
	healthTimeout = 500 * time.Millisecond
	readyTimeout  = 2 * time.Second
)

// Postgres's SQLSTATEs for a table and a schema that are not there.
const (
	undefinedTable = "42P01"
	invalidSchema  = "3F000"
)

// health says whether this process works. That the database is away is told, and
// is no reason to end the process: another one would not reach it either.
func (b *building) health(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	state := map[string]string{"status": "ok", "database": "ok", "engine": b.engine.Identity()}
	if err := b.database.pool.Ping(ctx); err != nil {
		state["database"] = "unreachable"
	}
	return state
}

// readiness is what a host needs to serve, part by part.
type readiness struct {
	Status    string `json:"status"`    // ready, starting, draining or unavailable
	Database  string `json:"database"`  // ok or unreachable
	Schema    string `json:"schema"`    // ok, missing or unknown
	Processor string `json:"processor"` // ok, starting or draining
}

// ready says whether requests should be sent here.
func (b *building) ready(ctx context.Context) readiness {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	r := readiness{Status: "ready", Database: "ok", Schema: "ok", Processor: "ok"}
	select {
	case <-b.processor.Ready():
	default:
		r.Status, r.Processor = "starting", "starting"
	}
	_, err := b.database.pool.Exec(ctx, `select from amber.migrations limit 1`)
	var answered *pgconn.PgError
	switch {
	case err == nil:
	case errors.As(err, &answered) && (answered.Code == undefinedTable || answered.Code == invalidSchema):
		r.Status, r.Schema = "unavailable", "missing"
	default:
		r.Status, r.Database, r.Schema = "unavailable", "unreachable", "unknown"
	}
	if b.draining.Load() {
		r.Status, r.Processor = "draining", "draining"
	}
	return r
}

func (b *building) serveReady(w http.ResponseWriter, r *http.Request) {
	answerReady(w, b.ready(r.Context()))
}

func answerReady(w http.ResponseWriter, r readiness) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Status == "ready" {
		wire.JSON(w, http.StatusOK, r)
		return
	}
	w.Header().Set("Retry-After", "1")
	wire.JSON(w, http.StatusServiceUnavailable, r)
}
