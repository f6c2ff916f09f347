package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/amberhost/amber/supabase/local"
)

// failOver has another server take over, as managed Postgres does it: a standby is
// made, and hears of each commit before it is answered; then the server dies, the
// standby is promoted, and connections come to it instead. moved is told the new
// address.
func (d *database) failOver(ctx context.Context, moved func(address string)) error {
	d.mu.Lock()
	config := d.config
	d.servers++
	dir := filepath.Join(d.root, fmt.Sprint("server", d.servers))
	d.mu.Unlock()
	standby, next, err := d.standBy(ctx, config, dir)
	if err != nil {
		return fmt.Errorf("make a standby: %w", err)
	}
	d.spoil(10 * time.Second)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.crash(ctx); err != nil {
		return fmt.Errorf("end the primary: %w", errors.Join(err, standby.Stop(ctx)))
	}
	if err := promote(ctx, dir); err != nil {
		return fmt.Errorf("promote the standby: %w", errors.Join(err, standby.Stop(ctx)))
	}
	d.server, d.config = standby, next
	moved(address(next.Port))
	d.pool.Reset()
	return os.RemoveAll(filepath.Join(config.Dir, "data"))
}

// standBy makes and starts a standby without which no commit of the server is
// answered any more.
func (d *database) standBy(ctx context.Context, primary local.Config, dir string) (*local.Server, local.Config, error) {
	standby := primary
	standby.Dir = dir
	var err error
	if standby.Port, err = freePort(); err != nil {
		return nil, standby, err
	}
	owner, err := ownerOf(filepath.Join(primary.Dir, "data"))
	if err != nil {
		return nil, standby, err
	}
	// Nobody but the account that Postgres runs as, which can do anything anyway.
	for file, line := range map[string]string{"pg_hba.conf": "local replication all peer map=standby", "pg_ident.conf": "standby " + owner.name + " amber_superuser"} {
		if err := prepend(filepath.Join(primary.Dir, "data", file), line); err != nil {
			return nil, standby, err
		}
	}
	if err := reload(primary.Dir); err != nil {
		return nil, standby, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, standby, err
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "data"), 0o700), os.Chown(filepath.Join(dir, "data"), owner.uid, owner.gid)); err != nil {
		return nil, standby, err
	}
	programs, _, err := local.FindBinaries(primary.BinDir)
	if err != nil {
		return nil, standby, err
	}
	backup := exec.CommandContext(ctx, filepath.Join(programs, "pg_basebackup"), "--host="+filepath.Join(primary.Dir, "run"), "--port="+strconv.Itoa(primary.Port),
		"--username=amber_superuser", "--pgdata="+filepath.Join(dir, "data"), "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	backup.Dir = dir
	if os.Getuid() != owner.uid {
		backup.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(owner.uid), Gid: uint32(owner.gid)}}
	}
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, standby, fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	server, err := local.Start(ctx, standby)
	if err != nil {
		return nil, standby, err
	}
	if err := d.awaitStandby(ctx, primary.Dir); err != nil {
		return nil, standby, errors.Join(err, server.Stop(ctx))
	}
	return server, standby, nil
}

// awaitStandby has the server answer no commit before the standby has it, and
// waits until that holds.
func (d *database) awaitStandby(ctx context.Context, primary string) error {
	f, err := os.OpenFile(filepath.Join(primary, "data", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\nsynchronous_standby_names = '*'\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := reload(primary); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var is bool
		if err := d.pool.QueryRow(ctx, `select exists (select from pg_stat_replication where sync_state = 'sync')`).Scan(&is); err != nil || is {
			return err
		}
		time.Sleep(50 * time.Millisecond) // polls another process
	}
}

// promote makes a standby a primary, as pg_ctl promote does.
func promote(ctx context.Context, dir string) error {
	pid, err := pidIn(dir)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "promote"), nil, 0o600); err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		return err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "data", "standby.signal"))
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		time.Sleep(20 * time.Millisecond) // polls another process
	}
}

// reload has the server in a directory read its configuration again.
func reload(dir string) error {
	pid, err := pidIn(dir)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGHUP)
}

// prepend puts a line at the beginning of a file.
func prepend(path, line string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append([]byte(line+"\n"), text...), 0) // it exists, and keeps owner and mode
}

// account is whom Postgres runs as.
type account struct {
	name     string
	uid, gid int
}

func ownerOf(path string) (account, error) {
	info, err := os.Stat(path)
	if err != nil {
		return account{}, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	u, err := user.LookupId(strconv.Itoa(int(stat.Uid)))
	if err != nil {
		return account{}, err
	}
	return account{u.Username, int(stat.Uid), int(stat.Gid)}, nil
}
