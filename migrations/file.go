package migrations

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed sql/*.sql
var embedded embed.FS

// fileName is what a migration is called: its number, its subject.
var fileName = regexp.MustCompile(`^(\d{4})_[a-z0-9_]+\.sql$`)

// file is one migration.
type file struct {
	name     string // "0001_initial.sql"
	number   int    // 1
	sql      string
	checksum string // SHA-256 of sql, in hex
}

// Names returns the names of all migrations of this program, in the order in
// which they are applied.
func Names() []string {
	files := mustLoad()
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.name
	}
	return names
}

// mustLoad is load for those who cannot return an error.
func mustLoad() []file {
	files, err := load()
	if err != nil {
		panic(err) // the program was built with files that cannot be applied
	}
	return files
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
		files[i] = file{name: e.Name(), number: i + 1, sql: string(text), checksum: hex.EncodeToString(sum[:])}
	}
	return files, nil
}

// apply runs the whole file.
func (f file) apply(ctx context.Context, tx pgx.Tx) error {
	// A file is many statements, which only the simple protocol takes at once.
	_, err := exec(ctx, tx, f.sql)
	if err == nil {
		return nil
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Position > 0 {
		return fmt.Errorf("%s:%d: %w", f.name, f.line(int(pgErr.Position)), described(err))
	}
	return fmt.Errorf("%s: %w", f.name, described(err))
}

// insert is the statement that records the file; its values need no quoting.
func (f file) insert() string {
	return fmt.Sprintf(`insert into amber.migrations (name, checksum) values ('%s', '\x%s')`, f.name, f.checksum)
}

// line returns the line, from 1, of a position that Postgres gave: characters
// from 1.
func (f file) line(position int) int {
	runes := []rune(f.sql)
	return 1 + strings.Count(string(runes[:min(position-1, len(runes))]), "\n")
}
