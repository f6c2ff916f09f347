package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"syscall"
)

// diskFullText is how Postgres' programs and the system say it.
var diskFullText = regexp.MustCompile(`No space left on device|Disk quota exceeded`)

// explain adds to an error about the directory what to do about it.
func (l layout) explain(err error) error {
	var file *fs.PathError
	switch {
	case errors.Is(err, ErrNoBinaries): // of another directory
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return l.diskFull(err.Error())
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: choose a directory that can be written with --data", err)
	case errors.Is(err, fs.ErrPermission) && errors.As(err, &file): // and not of a port
		return fmt.Errorf("%w: user id %d may not: give it the directory (chown -R), or choose another with --data", err, os.Getuid())
	}
	return err
}

// errDiskFull says that what Postgres needs to write does not fit.
var errDiskFull = errors.New("the disk is full")

func (l layout) diskFull(said string) error {
	return fmt.Errorf("%w: make room where %s is, and start again (nothing that was committed is lost), or choose another directory with --data:\n%s",
		errDiskFull, l.dir, said)
}

// segment is what Postgres asks of the disk at a time.
const segment = 16 << 20 // bytes

// full tells whether the directory's disk is, for a log that is on it too may
// lack the line that says so.
func (l layout) full() bool {
	var disk syscall.Statfs_t
	return syscall.Statfs(l.dir, &disk) == nil && disk.Bavail*uint64(disk.Bsize) < segment
}

// ended explains a server that has ended although nobody stopped it.
func (l layout) ended(tail string) error {
	if diskFullText.MatchString(tail) || l.full() {
		return fmt.Errorf("the embedded Postgres has ended: %w", l.diskFull(tail))
	}
	said := ""
	if tail != "" {
		said = "; its last lines:\n" + tail
	}
	return fmt.Errorf("the embedded Postgres has ended by itself: start again, it recovers what was committed; its log is %s%s", l.log, said)
}
