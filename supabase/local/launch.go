package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func (s *Server) launch(ctx context.Context, cfg Config, l layout, b binaries, a account) error {
	log, err := openLog(l)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	orphans, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		cmd := exec.Command(b.path("postgres"), arguments(cfg, l, s.port)...)
		cmd.Dir = l.data
		cmd.Env = environment(l.data)
		cmd.Stdout, cmd.Stderr = log.File, log.File
		cmd.SysProcAttr = a.sysProcAttr()
		if err := cmd.Start(); err != nil {
			return err
		}
		s.postmaster = &postmaster{pid: cmd.Process.Pid, child: true, data: l.data, uid: a.uid}
		err := s.ready(ctx, log)
		if err == nil {
			s.began = log.start
			return nil
		}
		if !errors.Is(err, errOrphans) || pause(orphans) != nil {
			return err
		}
		log.begin()
	}
}

// errOrphans: the sessions of a postmaster that was killed have not all
// noticed yet, or its own process has not gone, and a new one may not start
// before they have.
var errOrphans = errors.New("a killed Postgres is still ending")

// ready returns when the server answers. If it does not come to that, the
// server has ended when ready returns.
func (s *Server) ready(ctx context.Context, log *serverLog) error {
	const patience = 2 * time.Minute // recovery after a crash may have much to do
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if s.postmaster.gone() {
			return s.died(log)
		}
		ours, err := s.postmaster.answers(ctx, s.port)
		if ours {
			return nil
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code != "57P03" { // not "starting up"
			_ = s.postmaster.stop(context.WithoutCancel(ctx))
			return fmt.Errorf("the server starts, but does not take user %s with the password %q: %w", role, password, err)
		}
		if err := pause(ctx); err != nil {
			_ = s.postmaster.stop(context.WithoutCancel(ctx))
			return fmt.Errorf("%w while it started:\n%s", err, log.tail())
		}
	}
}

// died explains why a server ended while it started.
func (s *Server) died(log *serverLog) error {
	tail := log.tail()
	switch {
	case strings.Contains(tail, "pre-existing shared memory block"),
		strings.Contains(tail, "lock file") && strings.Contains(tail, "already exists"): // of a process not yet waited for
		return errOrphans
	case strings.Contains(tail, "Address already in use"):
		return portInUse(s.port)
	case diskFullText.MatchString(tail) || s.layout.full():
		return s.layout.diskFull(tail)
	}
	return fmt.Errorf("it ended at once; the end of %s:\n%s", log.Name(), tail)
}

func portFree(port int) error {
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return portInUse(port)
	}
	if err != nil {
		return fmt.Errorf("listen on the database port: %w: choose another with --db-port", err)
	}
	return listener.Close()
}

func portInUse(port int) error {
	return fmt.Errorf("%w: another program listens on 127.0.0.1:%d: stop it (a local Supabase, or the Postgres of a killed amber with another --data), "+
		"or choose another port with --db-port or AMBER_DB_PORT", ErrPortInUse, port)
}

// arguments holds what amber relies on. The rest is postgresql.conf's, which is
// the user's to edit.
func arguments(cfg Config, l layout, port int) []string {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": l.socketDir(port),
		"wal_level":               "logical",
		"fsync":                   "on",
		"max_connections":         "120",
		"max_slot_wal_keep_size":  "1GB", // a forgotten slot does not fill the disk
		"logging_collector":       "off",
		"log_destination":         "stderr",
	}
	maps.Copy(settings, cfg.Settings)
	args := []string{"-D", l.data}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

func dsn(port int) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/postgres?sslmode=disable", role, password, port)
}
