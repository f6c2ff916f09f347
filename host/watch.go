package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/amberhost/amber/functions/publish"
)

// debounce is how long a directory must be quiet before it is read: editors
// save by truncating and writing, or by writing aside and renaming.
const debounce = 100 * time.Millisecond

// retry is when a directory that cannot be read is tried again: it may have been
// removed, and then no event tells that it is there again.
const retry = time.Second

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
	trouble := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-w.events.Events:
			if w.concerns(event) {
				quiet.Reset(debounce)
			}
		case err := <-w.events.Errors: // too many events, for instance: look anew
			w.publisher.log.Warn("watching tasks", "err", err)
			quiet.Reset(debounce)
		case <-quiet.C:
			err := w.pass(ctx)
			if err != nil && ctx.Err() == nil {
				if err.Error() != trouble {
					w.publisher.log.Error("watching tasks", "err", err)
				}
				quiet.Reset(retry)
			}
			trouble = fmt.Sprint(err)
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

// concerns reports whether an event may have changed a task: it is about a
// file that pass looks at, or about what is, or may have been, a directory.
func (w *watcher) concerns(event fsnotify.Event) bool {
	name := filepath.Base(event.Name)
	switch {
	case event.Op == fsnotify.Chmod:
		return false
	case event.Name == filepath.Clean(w.dir):
		return true
	case strings.HasPrefix(name, "."), name == "node_modules":
		return false
	case publish.IsTaskFile(name), publish.IsTypeScript(name):
		return true
	}
	info, err := os.Lstat(event.Name)
	return err != nil || info.IsDir()
}
