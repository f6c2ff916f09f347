package stack_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/amberhost/amber/stack"
)

// image is what withMemory's hosts make snapshots against, in hex.
func image(set func(*stack.Config)) string {
	var c stack.Config
	set(&c)
	return c.Engine.Image().Digest().String()
}

func (d *db) hasImage(digest string) bool {
	d.t.Helper()
	return d.count(`select count(*) from amber.images where digest = decode($1, 'hex')`, digest) == 1
}

const unused = `update amber.images set used_at = now() - interval '25 hours'`

// TestUnusedImagesAreRemoved by a host that runs: not its own, not those of bodies
// that wait, not those that were used lately.
func TestUnusedImagesAreRemoved(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"keeps": keeps})
	waits, nobodys, own := d.withMemory(5), d.withMemory(6), d.withMemory(7)
	p, stop := d.host(waits)
	id := d.keep(p, 1)
	stop()
	for _, set := range []func(*stack.Config){nobodys, own} {
		_, stop := d.host(set)
		stop()
	}
	d.exec(unused)
	lately := bytes.Repeat([]byte{1}, 32)
	if err := d.store.SaveImage(t.Context(), lately, "some engine", []byte{}); err != nil {
		t.Fatal(err)
	}
	p, _ = d.host(own)
	d.eventually("the image that nobody uses is gone", func() bool { return !d.hasImage(image(nobodys)) })
	for what, digest := range map[string]string{"body that waits": image(waits), "host that runs": image(own), "host that ran lately": hex.EncodeToString(lately)} {
		if !d.hasImage(digest) {
			t.Errorf("the image of a %s is gone", what)
		}
	}
	d.ring()
	wantResult(t, d.wait(p, id), "1000000")
	d.exec(unused)
	if n, err := d.store.RemoveImages(t.Context()); n < 2 || err != nil || d.hasImage(image(waits)) {
		t.Errorf("%d images are removed, want those of the body that has ended and of the host that ran lately (%v)", n, err)
	}
}

// TestImageOfAHostThatRuns: it stays for as long as the host runs, and comes back
// if the database has lost it.
func TestImageOfAHostThatRuns(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"keeps": keeps})
	set := d.withMemory(5)
	p, stop := d.host(set)
	d.exec(unused)
	d.eventually("the host says that it uses its image", func() bool {
		return d.count(`select count(*) from amber.images where used_at > now() - interval '1 minute'`) == 1
	})
	if n, err := d.store.RemoveImages(t.Context()); n != 0 || err != nil {
		t.Errorf("%d images are removed (%v)", n, err)
	}
	id := d.keep(p, 1)
	d.exec(`delete from amber.images`) // as a database that was restored from before
	d.eventually("the image is back", func() bool { return d.hasImage(image(set)) })
	d.exec(`delete from amber.images; delete from amber.hosts`) // a host that lost its lease has it back as well
	d.eventually("the image is back", func() bool { return d.hasImage(image(set)) })
	stop()
	p, _ = d.host(d.withMemory(6))
	d.ring()
	wantResult(t, d.wait(p, id), "1000000")
}

// TestImageThatIsAboutToBeUsed: who removes images and who uses one wait for each
// other, and each sees what the other one did.
func TestImageThatIsAboutToBeUsed(t *testing.T) {
	t.Parallel()
	d := newDB(t, nil)
	digest := bytes.Repeat([]byte{1}, 32)
	save := func() {
		t.Helper()
		if err := d.store.SaveImage(t.Context(), digest, "some engine", []byte{}); err != nil {
			t.Fatal(err)
		}
		d.exec(unused)
	}
	save()
	// half does half of what the one does, lets the other run into it, and commits.
	half := func(sql string, other func() string) string {
		t.Helper()
		tx, err := d.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(context.Background())
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		result := make(chan string, 1)
		go func() { result <- other() }()
		d.eventually("one waits for the other", func() bool {
			return d.count(`select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == 1
		})
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		return <-result
	}
	if got := half(`update amber.images set used_at = now()`, func() string { return fmt.Sprint(d.store.RemoveImages(context.Background())) }); got != "0 <nil>" {
		t.Errorf("an image that is used was removed: %s", got)
	}
	d.exec(unused)
	if got := half(`delete from amber.images`, func() string { return fmt.Sprint(d.store.UseImage(context.Background(), digest)) }); got != "false <nil>" {
		t.Errorf("an image that is gone is there: %s", got)
	}
	save()
	old, err := d.store.Register(t.Context(), stack.Host{Name: "of the version before", Engines: []string{"e"}}, time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := d.store.RemoveImages(t.Context()); n != 0 || err != nil {
		t.Errorf("%d images were removed while a host runs that does not say which it uses (%v)", n, err)
	}
	if err := d.store.Release(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if n, err := d.store.RemoveImages(t.Context()); n != 1 || err != nil {
		t.Errorf("%d images were removed, want 1 (%v)", n, err)
	}
}
