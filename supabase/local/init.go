package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// The role that everybody uses, as in every local Supabase.
const (
	role     = "postgres"
	password = "postgres"
)

const initPrefix = "data.new-" // of a data directory that is being made

// initData makes the data directory: beside its place, then renamed to it, so
// that one half made is never taken for a database.
func initData(ctx context.Context, l layout, b binaries, a account) error {
	stale, _ := filepath.Glob(filepath.Join(l.dir, initPrefix+"*")) // what a killed host left
	for _, dir := range stale {
		_ = os.RemoveAll(dir) // in nobody's way if it stays
	}
	tmp, err := os.MkdirTemp(l.dir, initPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if a.switched {
		if err := os.Lchown(tmp, a.uid, a.gid); err != nil {
			return err
		}
	}
	pwfile, err := passwordFile(l.dir)
	if err != nil {
		return err
	}
	defer os.Remove(pwfile)
	if err := runInitdb(ctx, l, b, a, tmp, pwfile); err != nil {
		return err
	}
	if err := makeRoles(ctx, l, b, a, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, l.data)
}

// passwordFile holds what initdb insists on; makeRoles takes it back.
func passwordFile(dir string) (string, error) {
	f, err := os.CreateTemp(dir, initPrefix+"password-")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(password + "\n")
	return f.Name(), errors.Join(err, f.Chmod(0o644), f.Close())
}

func runInitdb(ctx context.Context, l layout, b binaries, a account, data, pwfile string) error {
	args := []string{"-D", data, "--username=" + superuser, "--pwfile=" + pwfile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--lc-messages=C"}
	locales := [][]string{{"--locale=C.UTF-8"}, {"--locale=C"}} // macOS has no C.UTF-8 of its own
	if b.major >= 17 {
		locales = [][]string{{"--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"}}
	}
	var out []byte
	var err error
	for _, locale := range locales {
		out, err = command(ctx, b.path("initdb"), append(args, locale...), a, data).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "invalid locale") {
			break
		}
	}
	return l.said(ctx, "initdb", out, err)
}

// command is a program that works on a data directory, as its owner.
func command(ctx context.Context, program string, args []string, a account, data string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = data
	cmd.Env = environment(data)
	cmd.SysProcAttr = a.sysProcAttr()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// said explains by what a program wrote why it failed, if it did.
func (l layout) said(ctx context.Context, program string, out []byte, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case diskFullText.Match(out):
		return l.diskFull(lastLines(string(out)))
	}
	return fmt.Errorf("%s: %w:\n%s", program, err, strings.TrimSpace(string(out)))
}

// environment is all that Postgres' programs get of ours. They take the default
// time zone from it; and on macOS the server does not start without a locale.
func environment(home string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C", "TZ=UTC"}
}
