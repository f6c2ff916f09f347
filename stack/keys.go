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

// CheckKeys makes sure that this host can read what others have sealed in this
// database, and notes the key that it will seal with itself. A host without the
// keys would strand every run that it touched. A key that seals nothing any more
// may be missing once it is forgotten (see [Store.Reseal]), or no host runs that
// may seal with it.
func (s *Store) CheckKeys(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, `select id, sample from amber.keys order by created_at`)
	if err != nil {
		return fmt.Errorf("check keys: %w", err)
	}
	var id string
	var sample []byte
	var missing []string
	_, err = pgx.ForEachRow(rows, []any{&id, &sample}, func() error {
		_, err := s.ring.Open(id, sample, keySample)
		if errors.Is(err, keys.ErrUnknownKey) {
			missing = append(missing, id)
			return nil
		}
		if err != nil {
			return fmt.Errorf("key %q is not the key of that id that this database's runs are sealed with: "+
				"give the old one in AMBER_KEYS, and a new one another id", id)
		}
		return nil
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
			return fmt.Errorf("this database's runs are sealed with key %q, which this host does not have: "+
				"add it to AMBER_KEYS (the first key writes, all of them read), "+
				"or have a host that has it seal them anew: amber keys reseal", id)
		}
	}
	return s.NoteKey(ctx)
}

// seals reports whether anything is sealed with that key, or may be soon.
func (s *Store) seals(ctx context.Context, id string) (used bool, err error) {
	err = s.pool.QueryRow(ctx, `
		select exists (select from amber.replies where key_id = @id) or exists (select from amber.snapshots where key_id = @id)
			or exists (select from amber.hosts where expires_at > now())`,
		pgx.StrictNamedArgs{"id": id}).Scan(&used)
	if err != nil {
		return false, fmt.Errorf("check keys: %w", err)
	}
	return used, nil
}

// NoteKey notes the key that this Store seals with, so that hosts without it
// refuse to start.
func (s *Store) NoteKey(ctx context.Context) error {
	id, sample, err := s.ring.Seal(keySample, keySample)
	if err != nil {
		return fmt.Errorf("note key: %w", err)
	}
	if _, err := s.pool.Exec(ctx, `insert into amber.keys (id, sample) values (@id, @sample) on conflict do nothing`,
		pgx.StrictNamedArgs{"id": id, "sample": sample}); err != nil {
		return fmt.Errorf("note key: %w", err)
	}
	return nil
}
