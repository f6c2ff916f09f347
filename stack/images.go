package stack

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Image returns the stored image with that digest; pgx.ErrNoRows if there is none.
func (s *Store) Image(ctx context.Context, digest []byte) ([]byte, error) {
	var data []byte
	err := s.pool.QueryRow(ctx, `/* Image */ select data from amber.images where digest = @digest`,
		pgx.StrictNamedArgs{"digest": digest}).Scan(&data)
	if err != nil {
		return nil, fmt.Errorf("load image %x: %w", digest, err)
	}
	return data, nil
}

// HasImage reports whether the image with that digest is stored.
func (s *Store) HasImage(ctx context.Context, digest []byte) (known bool, err error) {
	err = s.pool.QueryRow(ctx, `/* HasImage */ select exists (select from amber.images where digest = @digest)`,
		pgx.StrictNamedArgs{"digest": digest}).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("look for image %x: %w", digest, err)
	}
	return known, nil
}

// SaveImage stores an image, so that any host can resume what was suspended on it.
func (s *Store) SaveImage(ctx context.Context, digest []byte, engine string, data []byte) error {
	_, err := s.pool.Exec(ctx, `/* SaveImage */ insert into amber.images (digest, engine, data) values (@digest, @engine, @data) on conflict do nothing`,
		pgx.StrictNamedArgs{"digest": digest, "engine": engine, "data": data})
	if err != nil {
		return fmt.Errorf("save image %x: %w", digest, err)
	}
	return nil
}
