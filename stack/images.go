package stack

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Images are stored so that any host can resume what was suspended on them. A host
// says now and then that it uses its own (UseImage), and stores it again if it is
// gone; what nobody has used for a day goes, once no snapshot needs it.

// Image returns the stored image with that digest; pgx.ErrNoRows if there is none.
func (s *Store) Image(ctx context.Context, digest []byte) ([]byte, error) {
	var data []byte
	err := s.pool.QueryRow(ctx, `/* Image */ select data from amber.images where digest = @digest`,
		namedArgs{"digest": digest}).Scan(&data)
	if err != nil {
		return nil, fmt.Errorf("load image %x: %w", digest, err)
	}
	return data, nil
}

// SaveImage stores an image.
func (s *Store) SaveImage(ctx context.Context, digest []byte, engine string, data []byte) error {
	_, err := s.pool.Exec(ctx, `/* SaveImage */ insert into amber.images (digest, engine, data) values (@digest, @engine, @data) on conflict do nothing`,
		namedArgs{"digest": digest, "engine": engine, "data": data})
	if err != nil {
		return fmt.Errorf("save image %x: %w", digest, err)
	}
	return nil
}

// UseImage reports whether the image with that digest is stored, and will be for
// most of a day at least. It writes once an hour at most. A [Store.RemoveImages]
// that is about to remove the image is waited for.
func (s *Store) UseImage(ctx context.Context, digest []byte) (known bool, err error) {
	err = s.pool.QueryRow(ctx, `/* UseImage: look */ select used_at > now() - interval '1 hour' from amber.images where digest = @digest`,
		namedArgs{"digest": digest}).Scan(&known)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for image %x: %w", digest, err)
	}
	if known {
		return true, nil
	}
	tag, err := s.pool.Exec(ctx, `/* UseImage */ update amber.images set used_at = now() where digest = @digest`,
		namedArgs{"digest": digest})
	if err != nil {
		return false, fmt.Errorf("note the use of image %x: %w", digest, err)
	}
	return tag.RowsAffected() == 1, nil
}

// RemoveImages removes the images that no host has used for a day and that no
// snapshot needs, and returns how many. Hosts of a version that does not tell its
// memory do not tell either which image they use: while one runs, all stay.
//
// Most snapshots are on one image: the planner would look for it among all
// snapshots, were it asked for equality alone.
//
// A body that goes on has a key frame at any moment, so its image is needed until
// it ends; one that begins is on the image that its host uses.
func (s *Store) RemoveImages(ctx context.Context) (int, error) {
	tag, err := s.pool.Exec(ctx, `/* RemoveImages */
		delete from amber.images i
		where i.used_at < now() - interval '1 day'
			and i.digest is distinct from (select n.image from only amber.snapshots n where n.image >= i.digest order by n.image limit 1)
			and not exists (select from amber.hosts where memory is null)`)
	if err != nil {
		return 0, fmt.Errorf("remove unused images: %w", err)
	}
	return int(tag.RowsAffected()), nil
}
