package publish

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Listing is what there is under a directory, each in lexical order. What begins
// with a dot and node_modules are left out.
type Listing struct {
	Files      []string // of tasks, *.js and *.mjs
	Dirs       []string // where they may be, "." included
	TypeScript []string // what would be tasks once it is compiled
}

// List lists what there is under a directory.
func List(fsys fs.FS) (Listing, error) {
	var l Listing
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch base := path.Base(name); {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(base, "."), base == "node_modules":
			if entry.IsDir() {
				return fs.SkipDir
			}
		case entry.IsDir():
			l.Dirs = append(l.Dirs, name)
		case IsTaskFile(name):
			l.Files = append(l.Files, name)
		case IsTypeScript(name):
			l.TypeScript = append(l.TypeScript, name)
		}
		return nil
	})
	if err != nil {
		return Listing{}, fmt.Errorf("list task files: %w", err)
	}
	return l, nil
}

// IsTaskFile reports whether a file of that name holds a task.
func IsTaskFile(name string) bool {
	return slices.Contains([]string{".js", ".mjs"}, path.Ext(name)) && !strings.HasPrefix(path.Base(name), ".")
}

// IsTypeScript reports whether a file of that name holds TypeScript that
// compiles to code: declarations do not.
func IsTypeScript(name string) bool {
	ext := path.Ext(name)
	return slices.Contains([]string{".ts", ".tsx", ".mts", ".cts"}, ext) &&
		!strings.HasSuffix(strings.TrimSuffix(name, ext), ".d") && !strings.HasPrefix(path.Base(name), ".")
}

// Read makes a Source of a file: the task is called as the file is, without its
// extension.
func Read(fsys fs.FS, file string) (Source, error) {
	info, err := fs.Stat(fsys, file)
	if err != nil {
		return Source{}, fmt.Errorf("read task file: %w", err)
	}
	if info.Size() > MaxCode {
		return Source{}, invalid(0, "%s is %d bytes, at most %d can be published", file, info.Size(), MaxCode)
	}
	code, err := fs.ReadFile(fsys, file)
	if err != nil {
		return Source{}, fmt.Errorf("read task file: %w", err)
	}
	name := strings.TrimSuffix(path.Base(file), path.Ext(file))
	return Source{Name: name, Code: strings.TrimPrefix(string(code), "\ufeff"), Description: Description(name, string(code))}, nil
}
