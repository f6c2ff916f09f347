package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// poll is how often another process is looked at while we wait for it.
const poll = 10 * time.Millisecond

// postmaster is a running Postgres: our child, or one that outlived its host.
type postmaster struct {
	pid   int
	child bool
	data  string
	uid   int
}

// findPostmaster reads who runs, or ran, on a data directory, and on which port.
func findPostmaster(l layout, a account) (p *postmaster, port int) {
	text, err := readSmall(filepath.Join(l.data, "postmaster.pid"))
	if err != nil {
		return nil, 0
	}
	lines := strings.Split(text, "\n") // pid, data directory, start time, port, ...
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 1 {
		return nil, 0
	}
	if len(lines) > 3 {
		port, _ = strconv.Atoi(strings.TrimSpace(lines[3])) // 0 while it starts
	}
	return &postmaster{pid: pid, data: l.data, uid: a.uid}, port
}

// gone tells whether the process has ended. Only a child is sure to keep its
// pid until we look, so another is known by its owner and command line too.
func (p *postmaster) gone() bool {
	if p.child {
		pid, err := syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
		return pid == p.pid || errors.Is(err, syscall.ECHILD)
	}
	if errors.Is(syscall.Kill(p.pid, 0), syscall.ESRCH) {
		return true
	}
	return !p.ours()
}

func (p *postmaster) ours() bool {
	if info, err := os.Stat("/proc/self"); err == nil && info.IsDir() {
		proc := "/proc/" + strconv.Itoa(p.pid)
		info, err := os.Stat(proc)
		if err != nil || int(info.Sys().(*syscall.Stat_t).Uid) != p.uid {
			return false
		}
		line, err := os.ReadFile(proc + "/cmdline") // empty for a zombie
		return err == nil && bytes.Contains(line, []byte("\x00-D\x00"+p.data+"\x00"))
	}
	line, err := exec.Command("ps", "-ww", "-o", "args=", "-p", strconv.Itoa(p.pid)).Output()
	return err == nil && bytes.Contains(line, []byte(" -D "+p.data+" "))
}

// forget removes the pid file of a postmaster that is gone if another process
// has its pid by now: Postgres would take that one for a Postgres.
func (p *postmaster) forget(l layout) error {
	if errors.Is(syscall.Kill(p.pid, 0), syscall.ESRCH) {
		return nil
	}
	return os.Remove(filepath.Join(l.data, "postmaster.pid"))
}

// answers tells whether the server on a port is this one, or why there is none.
func (p *postmaster) answers(ctx context.Context, port int) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn(port))
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	var data string
	err = conn.QueryRow(ctx, "select current_setting('data_directory')").Scan(&data)
	return err == nil && data == p.data, err
}

// stop ends the server: in order, then at once when ctx or patience ends, then
// by force. Whatever happens, a later start recovers what was committed.
func (p *postmaster) stop(ctx context.Context) error {
	patient, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	steps := []struct {
		signal syscall.Signal
		ctx    context.Context
	}{
		{syscall.SIGINT, patient}, // fast shutdown: sessions end, a checkpoint is made
		{syscall.SIGQUIT, nil},    // immediate shutdown
		{syscall.SIGKILL, nil},
	}
	for _, step := range steps {
		if err := syscall.Kill(p.pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop Postgres (process %d): %w", p.pid, err)
		}
		if step.ctx == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			step.ctx = ctx
		}
		if p.wait(step.ctx) == nil {
			return nil
		}
	}
	return fmt.Errorf("stop Postgres: process %d does not end", p.pid)
}

// wait returns when the process has ended, or ctx's error.
func (p *postmaster) wait(ctx context.Context) error {
	for !p.gone() {
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(poll):
		return nil
	}
}
