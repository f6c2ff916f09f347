package host

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"

	"github.com/amberhost/amber/examples"
	"github.com/amberhost/amber/functions/publish"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/vm"
)

// publish publishes the tasks that the host is to start with. It returns a
// watcher for those that can change, else nil. Tasks that are wrong are logged
// and do not keep the host from starting.
func (h *Host) publish(ctx context.Context, b *building) (*watcher, error) {
	p := &publisher{store: b.store, engine: b.engine, log: h.config.Log}
	if h.config.TasksDir == "" && !h.config.Open {
		return nil, nil // examples are for developers
	}
	if h.config.TasksDir == "" {
		builtin, err := fs.Sub(examples.Tasks, "tasks")
		if err != nil {
			return nil, fmt.Errorf("open examples: %w", err)
		}
		p.fsys = builtin
		_, err = p.pass(ctx)
		return nil, err
	}
	p.fsys = os.DirFS(h.config.TasksDir)
	w, err := newWatcher(ctx, h.config.TasksDir, p)
	b.tasks = slices.Clone(p.published)
	return w, err
}

// publisher publishes the task files of a directory, each time they have changed.
type publisher struct {
	store  *stack.Store
	engine *vm.Engine
	log    *slog.Logger
	fsys   fs.FS
	seen   map[string]attempt // by file; as it was when last tried
	owners map[string]string  // by task name; the file that it comes from

	published []string        // tasks, in the order of their files
	skipped   map[string]bool // files that have been said to be no tasks
}

// attempt is what decides whether a file need not be tried again.
type attempt struct {
	content [sha256.Size]byte
	owner   string // file that the task comes from
}

// pass publishes what has changed since the last pass, logs a line about each,
// and returns the directories that may hold tasks.
func (p *publisher) pass(ctx context.Context) (dirs []string, err error) {
	found, err := publish.List(p.fsys)
	if err != nil {
		return nil, err
	}
	files := found.Files
	gone := func(file string) bool { return !slices.Contains(files, file) }
	before := p.seen
	p.seen = make(map[string]attempt, len(files))
	if p.owners == nil {
		p.owners = make(map[string]string, len(files))
	}
	maps.DeleteFunc(p.owners, func(_, file string) bool { return gone(file) })
	for _, file := range files {
		p.try(ctx, file, before)
	}
	for file := range before {
		if gone(file) {
			p.log.Info("file removed, its task stays as it was published", "file", file)
		}
	}
	p.skip(found.TypeScript)
	return found.Dirs, nil
}

// skip says once of each file why it is left out.
func (p *publisher) skip(typeScript []string) {
	for _, file := range typeScript {
		if !p.skipped[file] {
			p.log.Warn("not a task: TypeScript is not compiled here; publish the .js of it", "file", file)
		}
		if p.skipped == nil {
			p.skipped = make(map[string]bool)
		}
		p.skipped[file] = true
	}
}

// try publishes one file, unless it is as it was before.
func (p *publisher) try(ctx context.Context, file string, before map[string]attempt) {
	source, err := publish.Read(p.fsys, file)
	if errors.Is(err, fs.ErrNotExist) { // an editor is saving it, or it was just removed: there will be another pass
		if earlier, ok := before[file]; ok {
			p.seen[file] = earlier
		}
		return
	}
	owner := cmp.Or(p.owners[source.Name], file)
	now := attempt{sha256.Sum256([]byte(source.Code)), owner}
	if err == nil && before[file] == now {
		p.seen[file] = now
		return
	}
	change := ""
	switch {
	case err != nil:
	case owner != file:
		err = service.Errorf(service.CodeInvalidTask, "%s is a task of that name already", owner)
	default:
		p.owners[source.Name] = file
		change, err = publish.Put(ctx, p.store, p.engine, source)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		p.report(file, err)
	} else {
		p.log.Info("task "+change, "task", source.Name, "file", file)
		if !slices.Contains(p.published, source.Name) {
			p.published = append(p.published, source.Name)
		}
	}
	if err == nil || isAuthors(err) {
		p.seen[file] = now // else the next pass tries again
	}
}

// isAuthors reports whether err is for the author of the file to mend.
func isAuthors(err error) bool {
	var syntax *vm.SyntaxError
	var refused *service.Error
	return errors.As(err, &syntax) || errors.As(err, &refused)
}

// report logs what is wrong with a file; what is published stays.
func (p *publisher) report(file string, err error) {
	var syntax *vm.SyntaxError
	if errors.As(err, &syntax) {
		p.log.Error("task not published", "file", fmt.Sprintf("%s:%d:%d", file, syntax.Line, syntax.Column), "err", syntax.Message)
		return
	}
	p.log.Error("task not published", "file", file, "err", err)
}
