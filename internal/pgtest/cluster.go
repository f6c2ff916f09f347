package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/amberhost/amber/supabase/local"
	"github.com/jackc/pgx/v5"
)

// settings make a server quick whose data nobody will miss.
var settings = map[string]string{
	"fsync":              "off",
	"full_page_writes":   "off",
	"synchronous_commit": "off",
	"max_connections":    "300",
	"max_wal_senders":    "20",
	"shared_buffers":     "64MB",
	"autovacuum":         "off",
	"max_wal_size":       "512MB",
	"jit":                "off",
	"wal_init_zero":      "off",
}

// startCluster starts a server that lives as long as this process does, or
// until lifeline is closed.
func startCluster() (url string, lifeline *os.File, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	version, err := chosenVersion()
	if err != nil {
		return "", nil, err
	}
	template, err := clusterTemplate(ctx, version)
	if err != nil {
		return "", nil, fmt.Errorf("make a template: %w", err)
	}
	dir, err := tempDir()
	if err != nil {
		return "", nil, err
	}
	if lifeline, err = watch(dir); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := copyTree(template, filepath.Join(dir, "data")); err != nil {
		return "", nil, err
	}
	server, err := startServer(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	return server.URL(), lifeline, runs(server.URL(), version)
}

// chosenVersion is the version of the Postgres in AMBER_POSTGRES_BIN, or else
// of the machine's newest. AMBER_TEST_POSTGRES_MAJOR says which it must be.
func chosenVersion() (string, error) {
	dir, version, err := local.FindBinaries(os.Getenv("AMBER_POSTGRES_BIN"))
	if err != nil {
		return "", err
	}
	major, _, _ := strings.Cut(version, ".")
	if want := os.Getenv("AMBER_TEST_POSTGRES_MAJOR"); want != "" && major != want {
		return "", fmt.Errorf("AMBER_TEST_POSTGRES_MAJOR wants Postgres %s, but %s has %s: set AMBER_POSTGRES_BIN", want, dir, version)
	}
	return version, nil
}

// runs checks which version a server is.
func runs(url, version string) error {
	return with(url, func(ctx context.Context, conn *pgx.Conn) error {
		var got string
		if err := conn.QueryRow(ctx, "select current_setting('server_version')").Scan(&got); err != nil {
			return err
		}
		if got, _, _ = strings.Cut(got, " "); got != version { // Debian adds a word of its own
			return fmt.Errorf("the server is Postgres %s instead of %s", got, version)
		}
		return nil
	})
}

// startServer starts a server on a free port. Another process may take the
// port before the server does, so it is tried a few times.
func startServer(ctx context.Context, dir string) (*local.Server, error) {
	for try := 0; ; try++ {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		s, err := local.Start(ctx, local.Config{
			Dir: dir, Port: port, BinDir: os.Getenv("AMBER_POSTGRES_BIN"), Offline: true, Settings: maps.Clone(settings),
		})
		if !errors.Is(err, local.ErrPortInUse) || try == 9 {
			return s, err
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// clusterTemplate returns a plain data directory, see [Plain]. All test
// processes of this user share it: initdb takes longer than most packages' tests.
func clusterTemplate(ctx context.Context, version string) (string, error) {
	which := version + strings.ReplaceAll(os.Getenv("AMBER_POSTGRES_BIN"), "/", "_")
	dir := filepath.Join(base(), fmt.Sprintf("amber-pgtest-%d-%s", os.Getuid(), which))
	if err := ours(dir); !errors.Is(err, fs.ErrNotExist) {
		return filepath.Join(dir, "data"), err
	}
	tmp, err := tempDir()
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	line, err := watch(tmp)
	if err != nil {
		return "", err
	}
	defer line.Close() // the watcher then finds nothing to do
	server, err := startServer(ctx, tmp)
	if err != nil {
		return "", err
	}
	if err := server.Stop(ctx); err != nil {
		return "", err
	}
	if err := makePlain(tmp); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, dir); err != nil && ours(dir) != nil {
		return "", err // else another process was first
	}
	return filepath.Join(dir, "data"), nil
}

// ours refuses a directory that someone else put in the shared temporary one.
func ours(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if stat := info.Sys().(*syscall.Stat_t); !info.IsDir() || int(stat.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not ours: remove it", dir)
	}
	return nil
}

// base is where clusters are made: in memory where there is plenty, since a
// database is three hundred files, else where temporary files go.
func base() string {
	const memory, plenty = "/dev/shm", 2 << 30
	var fs syscall.Statfs_t
	if os.Getenv("TMPDIR") == "" && syscall.Statfs(memory, &fs) == nil && fs.Bavail*uint64(fs.Bsize) >= plenty {
		return memory
	}
	return os.TempDir()
}

// Dir returns a directory for a test's own server, which is removed when the
// test ends. Unlike the one of t.TempDir, the user whom Postgres runs as can enter it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := tempDir()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return dir
}

func tempDir() (string, error) {
	dir, err := os.MkdirTemp(base(), "amber-pgtest-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// copyTree keeps owners and modes, which Postgres insists on.
func copyTree(from, to string) error {
	if out, err := exec.Command("cp", "-pR", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the template: %w: %s", err, out)
	}
	return nil
}
