package host

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/amberhost/amber/functions/publish"
)

// debounce is how long a directory must be quiet before it is read: editors
// save by truncating and writing, or by writing aside and renaming.
const debounce = 100 * time.Millisecond

// watcher publishes the tasks of a directory whenever it changes.
type watcher struct {
	dir       string
	publisher *publisher
	events    *fsnotify.Watcher
}

// newWatcher publishes what is there and returns a watcher, which its run closes.
func newWatcher(ctx context.Context, dir string, p *publisher) (*watcher, error) {
	events, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	w := &watcher{dir: dir, publisher: p, events: events}
	if err := w.pass(ctx); err != nil {
		events.Close()
		return nil, err
	}
	return w, nil
}

// run publishes what changes until ctx is done.
func (w *watcher) run(ctx context.Context) error {
	defer w.events.Close()
	quiet := time.NewTimer(debounce) // what changed before we listened
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-w.events.Events:
			if concerns(event) {
				quiet.Reset(debounce)
			}
		case err := <-w.events.Errors: // too many events, for instance: look anew
			w.publisher.log.Warn("watching tasks", "err", err)
			quiet.Reset(debounce)
		case <-quiet.C:
			if err := w.pass(ctx); err != nil && ctx.Err() == nil {
				w.publisher.log.Error("watching tasks", "err", err)
			}
		}
	}
}

// pass publishes what has changed, and watches directories that are new.
func (w *watcher) pass(ctx context.Context) error {
	dirs, err := w.publisher.pass(ctx)
	if err != nil {
		return err
	}
	watched := map[string]bool{}
	for _, dir := range w.events.WatchList() {
		watched[dir] = true
	}
	added := false
	for _, dir := range dirs {
		if dir = filepath.Join(w.dir, filepath.FromSlash(dir)); !watched[dir] {
			if err := w.events.Add(dir); err != nil {
				return fmt.Errorf("watch %s: %w", dir, err)
			}
			added = true
		}
	}
	if added { // files may have come before the watch
		_, err = w.publisher.pass(ctx)
	}
	return err
}

// concerns reports whether an event may have changed a task: it is about a task
// file, or about what may be a directory.
func concerns(event fsnotify.Event) bool {
	if event.Op == fsnotify.Chmod {
		return false
	}
	name := filepath.Base(event.Name)
	return publish.IsTaskFile(name) || path.Ext(name) == ""
}
