package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/supabase/local"
)

// maxConnections is few, so that they can be used up.
const maxConnections = "80"

// database is a Postgres of the harness's own.
type database struct {
	root     string // for all servers' directories
	password string
	pool     *pgxpool.Pool // the harness's own, which goes around the proxies

	mu      sync.Mutex
	server  *local.Server
	config  local.Config
	servers int       // that there were
	until   time.Time // when a fault of the database is over, about
}

// where is the server's URL.
func (d *database) where() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.server.URL()
}

// port is the server's.
func (d *database) port() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.Port
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func startDatabase(ctx context.Context, dir string, fsync bool) (*database, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	settings := map[string]string{"max_connections": maxConnections}
	if !fsync {
		settings["fsync"], settings["full_page_writes"] = "off", "off"
	}
	d := &database{root: dir, servers: 1, config: local.Config{Dir: dir, Port: port, BinDir: os.Getenv("AMBER_POSTGRES_BIN"), Settings: settings}}
	if d.server, err = local.Start(ctx, d.config); err != nil {
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	config, err := pgxpool.ParseConfig(d.server.URL())
	if err != nil {
		return nil, errors.Join(err, d.server.Stop(ctx))
	}
	d.password = config.ConnConfig.Password
	config.MaxConns = 16
	config.MinConns = 8 // it must be heard when there are no more for anybody
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "off"
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		c.Port = uint16(d.port()) // of the server that there is now
		return nil
	}
	d.pool, err = pgxpool.NewWithConfig(ctx, config)
	return d, err
}

func (d *database) stop() error {
	d.pool.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return d.server.Stop(ctx)
}

// restart is pg_ctl restart -m immediate: Postgres dies, and recovers.
func (d *database) restart(ctx context.Context) error {
	d.spoil(5 * time.Second)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.crash(ctx); err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	for try := 0; ; try++ {
		server, err := local.Start(ctx, d.config)
		if err == nil {
			d.server = server
			return nil
		}
		if try == 20 || ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond) // its port may not be free yet
	}
}

// crash ends the server at once, which leaves everything to recovery. The caller
// holds d.mu.
func (d *database) crash(ctx context.Context) error {
	pid, err := pidIn(d.config.Dir)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return err
	}
	_ = d.server.Wait(ctx) // tells how it died
	if err := d.server.Stop(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	return nil
}

// pidIn is the process of the server in a directory.
func pidIn(dir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(string(text), "\n", 2)[0]))
	if err == nil && pid <= 1 {
		err = fmt.Errorf("pid %d", pid)
	}
	return pid, err
}

// readOnly makes every new transaction of others read-only, or not.
func (d *database) readOnly(ctx context.Context, on bool) error {
	if on {
		d.spoil(5 * time.Second)
	}
	var name string
	if err := d.pool.QueryRow(ctx, `select current_database()`).Scan(&name); err != nil {
		return err
	}
	_, err := d.pool.Exec(ctx, `alter database `+pgx.Identifier{name}.Sanitize()+` set default_transaction_read_only = `+map[bool]string{true: "on", false: "off"}[on])
	return err
}

// fill uses up all connections until the returned function is called.
func (d *database) fill(ctx context.Context) (release func(), n int) {
	d.spoil(5 * time.Second)
	var conns []*pgx.Conn
	for len(conns) < 200 {
		c, err := pgx.Connect(ctx, d.where())
		if err != nil {
			break
		}
		conns = append(conns, c)
	}
	return func() {
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		for _, c := range conns {
			_ = c.Close(closing)
		}
	}, len(conns)
}

// deafen ends the connections that listen for hints.
func (d *database) deafen(ctx context.Context) error {
	_, err := d.pool.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query ~ '[*]/ listen '`)
	return err
}

// hint hints that something may be to do, often.
func (d *database) hint(ctx context.Context, times int) error {
	_, err := d.pool.Exec(ctx, `select pg_notify('amber_wake', n::text) from generate_series(1, $1) n`, times)
	return err
}

// spoil notes that hosts cannot be expected to start for so long.
func (d *database) spoil(d2 time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if until := time.Now().Add(d2); until.After(d.until) {
		d.until = until
	}
}

func (d *database) spoilt() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Before(d.until)
}

var errNoFault = errors.New("it made no difference")
