package harness

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/internal/pgtest"
)

// TestCheckParked: what is parked that somebody could go on with is found, and what
// nobody can go on with and is not parked.
func TestCheckParked(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	insert := func(reason *string) uuid.UUID {
		id := uuid.New()
		_, err := pool.Exec(t.Context(), `insert into public.stack_runs (id, service_name, method_name, args, status, stuck_reason)
			values ($1, 'tasks', 'execute', '[]', 'sleeping', $2)`, id, reason)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	why := "its key is gone"
	broken, other, loose := insert(&why), insert(&why), insert(nil)
	for _, c := range []struct {
		name   string
		broken []uuid.UUID
		parked int
		odd    []string
	}{
		{"as it should be", []uuid.UUID{broken, other}, 2, nil},
		{"one was never inserted", []uuid.UUID{broken, other, uuid.New()}, 2, nil},
		{"another is parked", []uuid.UUID{broken}, 1, []string{other.String() + " is parked: " + why}},
		{"one is not parked", []uuid.UUID{broken, other, loose}, 2, []string{"2 of the 3 rows are parked that nobody can go on with"}},
	} {
		p := &play{Options: Options{}.withDefaults(), database: &database{pool: pool}, broken: c.broken}
		if err := p.checkParked(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p.report.Parked != c.parked || strings.Join(p.report.Odd, "\n") != strings.Join(c.odd, "\n") {
			t.Errorf("%s: %d parked, odd: %q, want %d and %q", c.name, p.report.Parked, p.report.Odd, c.parked, c.odd)
		}
	}
}
