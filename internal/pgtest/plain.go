package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/amberhost/amber/supabase/local"
)

// plainSQL, a statement per line, makes what local.Start made a server like any
// other: postgres is a superuser, and there are no roles of a Supabase project.
const plainSQL = `
alter role postgres superuser createrole replication
drop role anon, authenticated, service_role, authenticator
`

// Plain makes the data directory in dir, that of a server that was started by
// package local and stopped, a plain one: tests may do on it what its superuser may.
func Plain(t testing.TB, dir string) {
	t.Helper()
	if err := makePlain(dir); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

func makePlain(dir string) error {
	bin, _, err := local.FindBinaries(os.Getenv("AMBER_POSTGRES_BIN"))
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	info, err := os.Stat(data)
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), "--single", "-F", "-D", data, "-c", "exit_on_error=on", "postgres")
	cmd.Dir = data
	cmd.Stdin = strings.NewReader(plainSQL)
	if owner := info.Sys().(*syscall.Stat_t); int(owner.Uid) != os.Getuid() { // Postgres refuses root
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make postgres a superuser: %w: %s", err, out)
	}
	return nil
}
