package publish

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Files lists the task files under a directory, *.js and *.mjs, and the
// directories they may be in, "." included, both in lexical order. What begins
// with a dot and node_modules are left out.
func Files(fsys fs.FS) (files, dirs []string, err error) {
	err = fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch base := path.Base(name); {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(base, "."), base == "node_modules":
			if entry.IsDir() {
				return fs.SkipDir
			}
		case entry.IsDir():
			dirs = append(dirs, name)
		case IsTaskFile(name):
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list task files: %w", err)
	}
	return files, dirs, nil
}

// IsTaskFile reports whether a file of that name holds a task.
func IsTaskFile(name string) bool {
	return slices.Contains([]string{".js", ".mjs"}, path.Ext(name)) && !strings.HasPrefix(path.Base(name), ".")
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
