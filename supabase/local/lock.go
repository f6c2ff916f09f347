package local

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ErrLocked says that another process, or this one, owns the data directory.
var ErrLocked = errors.New("data directory in use")

// lock takes a directory's lock. The system lets go of it when the file is
// closed or the process ends, however it ends.
func lock(l layout) (*os.File, error) {
	f, err := os.OpenFile(l.lock, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", l.lock, err)
		}
		return nil, fmt.Errorf("%w: %s is used by %s: stop it, or choose another directory with --data", ErrLocked, l.dir, holder(l))
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func holder(l layout) string {
	text, _ := readSmall(l.lock)
	if pid, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
		return "process " + strconv.Itoa(pid)
	}
	return "another process"
}
