package migrations

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

//go:embed sql/*.sql
var embedded embed.FS

// fileName is what a migration is called: its number, its subject.
var fileName = regexp.MustCompile(`^(\d{4})_[a-z0-9_]+\.sql$`)

// file is one migration.
type file struct {
	name     string // "0001_initial.sql"
	sql      string
	checksum []byte // SHA-256 of sql
}

// Names returns the names of all migrations of this program, in the order in
// which they are applied.
func Names() []string {
	files, err := load()
	if err != nil {
		panic(err) // the program was built with files that cannot be applied
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.name
	}
	return names
}

// load reads the embedded files. Their numbers are 1, 2, 3: two branches that
// both add the next one meet here, not in somebody's database.
func load() ([]file, error) {
	entries, err := fs.ReadDir(embedded, "sql") // sorted by name
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	files := make([]file, len(entries))
	for i, e := range entries {
		m := fileName.FindStringSubmatch(e.Name())
		if m == nil || m[1] != fmt.Sprintf("%04d", i+1) {
			return nil, fmt.Errorf("migration %s: its name should be %04d_subject.sql", e.Name(), i+1)
		}
		text, err := embedded.ReadFile("sql/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		sum := sha256.Sum256(text)
		files[i] = file{name: e.Name(), sql: string(text), checksum: sum[:]}
	}
	return files, nil
}

// line returns the line, from 1, of a position that Postgres gave: characters
// from 1.
func (f file) line(position int) int {
	runes := []rune(f.sql)
	return 1 + strings.Count(string(runes[:min(position-1, len(runes))]), "\n")
}
