package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/amberhost/amber/host"
)

// Temporary has a configuration without a database use an embedded Postgres in a
// directory of its own, beside the one where amber dev would have it: so it is on
// the same disk. remove removes the directory.
func Temporary(c host.Config) (_ host.Config, remove func() error, err error) {
	parent := filepath.Dir(c.DataDir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return c, nil, fmt.Errorf("make a temporary data directory (beside --data): %w", err)
	}
	if c.DataDir, err = os.MkdirTemp(parent, "amber-bench-"); err != nil {
		return c, nil, fmt.Errorf("make a temporary data directory (beside --data): %w", err)
	}
	dir := c.DataDir
	remove = func() error {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the temporary data directory: %w", err)
		}
		return nil
	}
	err = os.Chmod(dir, 0o755) // whoever Postgres runs as passes through
	if err == nil {
		c.DBPort, err = freePort()
	}
	if err != nil {
		return c, nil, errors.Join(err, remove())
	}
	return c, remove, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
