package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Pooling is when a PgBouncer gives a client's server connection to another client.
type Pooling string

// The two kinds of [Pooling] that hosted databases offer.
const (
	PoolSessions     Pooling = "session"     // when it disconnects
	PoolTransactions Pooling = "transaction" // after each transaction: nothing of a session lasts
)

// Bouncer puts a PgBouncer with so many server connections in front of the
// database that dsn names, and returns the connection string of the database
// through it. It ends with the test, or with this process.
func Bouncer(t testing.TB, dsn string, pooling Pooling, servers int) string {
	t.Helper()
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		bin, err = exec.LookPath("/usr/sbin/pgbouncer") // not on the PATH of everybody
	}
	if err != nil {
		t.Fatal("pgtest: pgbouncer is missing; on Debian: apt-get install pgbouncer")
	}
	server, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("pgtest: the connection string is no URL")
	}
	for try := 0; ; try++ {
		through, err := bounce(t, bin, server, pooling, servers)
		if err == nil {
			return through
		}
		if try == 4 { // somebody took the port each time, or it is something else
			t.Fatalf("pgtest: pgbouncer: %v", err)
		}
	}
}

func bounce(t testing.TB, bin string, server *url.URL, pooling Pooling, servers int) (dsn string, err error) {
	dir := Dir(t)
	port, err := freePort()
	if err != nil {
		return "", err
	}
	password, _ := server.User.Password()
	files := map[string]string{
		"users": fmt.Sprintf("%q %q\n", server.User.Username(), password),
		"ini": strings.Join([]string{
			"[databases]",
			fmt.Sprintf("* = host=%s port=%s", server.Hostname(), server.Port()),
			"[pgbouncer]",
			"listen_addr = 127.0.0.1",
			fmt.Sprintf("listen_port = %d", port),
			"unix_socket_dir =",
			"auth_type = trust",
			"auth_file = " + filepath.Join(dir, "users"),
			"pool_mode = " + string(pooling),
			fmt.Sprintf("default_pool_size = %d", servers),
			"max_client_conn = 500",
			"ignore_startup_parameters = extra_float_digits",
		}, "\n") + "\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := exec.Command(bin, filepath.Join(dir, "ini"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 { // which pgbouncer refuses to run as
		if cmd.SysProcAttr.Credential, err = nobody(); err != nil {
			return "", err
		}
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	stop := func() { _ = cmd.Process.Kill(); <-ended }
	lifeline, err := killWithUs(cmd.Process.Pid, dir)
	if err != nil {
		stop()
		return "", err
	}
	t.Cleanup(func() { stop(); lifeline.stop() })
	through := *server
	through.Host = fmt.Sprintf("127.0.0.1:%d", port)
	query := through.Query()
	query.Set("sslmode", "disable")
	through.RawQuery = query.Encode()
	if err := answers(through.String(), ended); err != nil {
		text, _ := os.ReadFile(log.Name())
		return "", fmt.Errorf("%w\n%s", err, text)
	}
	return through.String(), nil
}

// answers waits until the pooler does.
func answers(dsn string, ended <-chan struct{}) error {
	deadline := time.After(timeout)
	for {
		err := with(dsn, func(ctx context.Context, conn *pgx.Conn) error { return conn.Ping(ctx) })
		if err == nil {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ended:
			return fmt.Errorf("it ended: %w", err)
		case <-deadline:
			return err
		}
	}
}

// nobody is whom the pooler runs as when we are root.
func nobody() (*syscall.Credential, error) {
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// lifeline is a process that kills another, and removes its directory, when this
// one is gone: see watch.
type lifeline struct {
	cmd *exec.Cmd
	end *os.File
}

func killWithUs(pid int, dir string) (*lifeline, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", `cat >/dev/null; kill -KILL "$1"; rm -rf "$2"`, "sh", strconv.Itoa(pid), dir)
	cmd.Dir = "/"
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, err
	}
	return &lifeline{cmd, w}, nil
}

// stop ends the lifeline before it acts.
func (l *lifeline) stop() {
	_ = syscall.Kill(-l.cmd.Process.Pid, syscall.SIGKILL)
	_ = l.cmd.Wait()
	_ = l.end.Close()
}
