package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
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
	dir      string
	config   local.Config
	url      string
	address  string // host:port
	password string
	pool     *pgxpool.Pool // the harness's own, which goes around the proxies

	mu     sync.Mutex
	server *local.Server
	until  time.Time // when a fault of the database is over, about
}

func startDatabase(ctx context.Context, dir string, fsync bool) (*database, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	settings := map[string]string{"max_connections": maxConnections}
	if !fsync {
		settings["fsync"], settings["full_page_writes"] = "off", "off"
	}
	d := &database{dir: dir, config: local.Config{Dir: dir, Port: port, BinDir: os.Getenv("AMBER_POSTGRES_BIN"), Settings: settings}}
	if d.server, err = local.Start(ctx, d.config); err != nil {
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	u, err := url.Parse(d.server.URL())
	if err != nil {
		return nil, err
	}
	d.address = fmt.Sprintf("127.0.0.1:%d", port)
	u.Host = d.address
	d.url = u.String()
	d.password, _ = u.User.Password()
	config, err := pgxpool.ParseConfig(d.url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 16
	config.MinConns = 8 // it must be heard when there are no more for anybody
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "off"
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
	text, err := os.ReadFile(filepath.Join(d.dir, "data", "postmaster.pid"))
	if err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(string(text), "\n", 2)[0]))
	if err != nil || pid <= 1 {
		return fmt.Errorf("restart Postgres: pid %d: %w", pid, err)
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	_ = d.server.Wait(ctx) // tells how it died
	if err := d.server.Stop(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	for try := 0; ; try++ {
		if d.server, err = local.Start(ctx, d.config); err == nil || try == 20 || ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond) // its port may not be free yet
	}
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
		c, err := pgx.Connect(ctx, d.url)
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
