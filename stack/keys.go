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
// keys would strand every run that it touched.
func (s *Store) CheckKeys(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, `select id, sample from amber.keys order by created_at`)
	if err != nil {
		return fmt.Errorf("check keys: %w", err)
	}
	var id string
	var sample []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &sample}, func() error {
		_, err := s.ring.Open(id, sample, keySample)
		if errors.Is(err, keys.ErrUnknownKey) {
			return fmt.Errorf("this database holds runs that are sealed with key %q, which this host does not have: "+
				"add it to AMBER_KEYS (the first key writes, all of them read)", id)
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
	id, sample, err = s.ring.Seal(keySample, keySample)
	if err != nil {
		return fmt.Errorf("check keys: %w", err)
	}
	if _, err := s.pool.Exec(ctx, `insert into amber.keys (id, sample) values (@id, @sample) on conflict do nothing`,
		pgx.StrictNamedArgs{"id": id, "sample": sample}); err != nil {
		return fmt.Errorf("check keys: %w", err)
	}
	return nil
}
