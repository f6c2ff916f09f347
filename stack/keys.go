package stack

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/supabase/keys"
)

// keySample is sealed once with each key that writes to a database.
var keySample = []byte("amber")

// MissingKeyError: a database has what is sealed with a key that this host lacks.
type MissingKeyError struct {
	ID string // of the key
}

func (e *MissingKeyError) Error() string {
	return fmt.Sprintf("this database's runs are sealed with key %q, which this host does not have: "+
		"add it to AMBER_KEYS (the first key writes, all of them read; amber dev keeps its own in the file amber-keys of its data directory), "+
		"or have a host that has it seal them anew: amber keys reseal", e.ID)
}

// CheckKeys makes sure that this host can read what others have sealed in this
// database, and notes the key that it will seal with itself. A host without the
// keys would strand every run that it touched. A key that seals nothing any more
// may be missing once it is forgotten (see [Store.Reseal]), or no host runs that
// may seal with it. Its error is a [*MissingKeyError] if a key is not there.
func (s *Store) CheckKeys(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, `/* CheckKeys */ select id, sample from amber.keys order by created_at`)
	if err != nil {
		return fmt.Errorf("check keys: %w", err)
	}
	var id string
	var sample []byte
	var missing []string
	_, err = pgx.ForEachRow(rows, []any{&id, &sample}, func() error {
		known, err := s.checkSample(id, sample)
		if err == nil && !known {
			missing = append(missing, id)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range missing {
		used, err := s.seals(ctx, id)
		if err != nil {
			return err
		}
		if used {
			return &MissingKeyError{ID: id}
		}
	}
	return s.NoteKey(ctx)
}

// seals reports whether anything is sealed with that key, or may be soon.
func (s *Store) seals(ctx context.Context, id string) (used bool, err error) {
	err = s.pool.QueryRow(ctx, `/* seals */
		select exists (select from amber.replies where key_id = @id) or exists (select from amber.snapshots where key_id = @id)
			or exists (select from amber.hosts where expires_at > now())`,
		namedArgs{"id": id}).Scan(&used)
	if err != nil {
		return false, fmt.Errorf("check keys: %w", err)
	}
	return used, nil
}

// NoteKey notes the key that this Store seals with, so that hosts without it
// refuse to start. It fails while a host runs that has other keys and not this
// one: that host could open nothing that is sealed from now on.
func (s *Store) NoteKey(ctx context.Context) error {
	if err := s.everyHostHas(ctx, s.ring.Writer()); err != nil {
		return err
	}
	id, sample, err := s.ring.Seal(keySample, keySample)
	if err != nil {
		return fmt.Errorf("note key: %w", err)
	}
	if _, err := s.pool.Exec(ctx, `/* NoteKey */ insert into amber.keys (id, sample) values (@id, @sample) on conflict do nothing`,
		namedArgs{"id": id, "sample": sample}); err != nil {
		return fmt.Errorf("note key: %w", err)
	}
	return nil
}

func (s *Store) everyHostHas(ctx context.Context, id string) error {
	var name string
	err := s.pool.QueryRow(ctx, `/* everyHostHas */
		select name from amber.hosts where expires_at > now() and keys <> '{}' and not @id = any(keys) limit 1`,
		namedArgs{"id": id}).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("note key: %w", err)
	}
	return fmt.Errorf("host %s runs without key %q, and could not go on with what is sealed with it: "+
		"first give all hosts AMBER_KEYS with the new key behind the old one, then with the new one in front", name, id)
}

// checkSample makes sure that the ring's key of that id, if it has one, is the
// one of the sample.
func (s *Store) checkSample(id string, sample []byte) (known bool, err error) {
	_, err = s.ring.Open(id, sample, keySample)
	if errors.Is(err, keys.ErrUnknownKey) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("key %q is not the key of that id that this database's runs are sealed with: "+
			"give the old one in AMBER_KEYS, and a new one another id", id)
	}
	return true, nil
}
