package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that Postgres runs as: ourselves, but never root.
type account struct {
	name     string
	uid, gid int
	switched bool // it is not ourselves
}

// accountFor returns the account for a data directory: its owner's if it is
// there, else "postgres", else "nobody". Only root has a choice.
func accountFor(data string) (account, error) {
	owner, err := ownerOf(data)
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return account{}, err
	}
	self := account{name: "uid " + strconv.Itoa(os.Getuid()), uid: os.Getuid(), gid: os.Getgid()}
	switch {
	case self.uid != 0 && exists && owner.uid != self.uid:
		return account{}, fmt.Errorf("%s belongs to user %s, and you are %s: choose another directory with --data", data, owner.name, self.name)
	case self.uid != 0:
		return self, nil
	case exists && owner.uid == 0:
		return account{}, fmt.Errorf("%s belongs to root, and Postgres does not run as root: chown -R postgres it, or choose another directory with --data", data)
	case exists:
		return owner, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if a, err := lookup(name); err == nil {
			return a, nil
		}
	}
	return account{}, errors.New("as root, amber runs Postgres as user postgres or nobody, and there is neither: make one (useradd --system postgres), or do not run amber as root")
}

func lookup(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return account{}, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return account{}, err
	}
	return account{name: name, uid: uid, gid: gid, switched: true}, nil
}

func ownerOf(path string) (account, error) {
	info, err := os.Stat(path)
	if err != nil {
		return account{}, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	a := account{uid: int(stat.Uid), gid: int(stat.Gid), switched: int(stat.Uid) != os.Getuid()}
	a.name = "uid " + strconv.Itoa(a.uid)
	if u, err := user.LookupId(strconv.Itoa(a.uid)); err == nil {
		a.name = u.Username
	}
	return a, nil
}

// sysProcAttr makes a child the account's, in a process group of its own: the
// terminal's Ctrl-C is for the host, which stops Postgres in order.
func (a account) sysProcAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.switched {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

// mkdir makes a directory that only the account may use, if it is not there.
func (a account) mkdir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil || !a.switched {
		return err
	}
	return os.Lchown(dir, a.uid, a.gid)
}

// reach checks that the account can walk down to path; what does not exist yet
// is no hindrance. It goes by the mode bits: what an ACL adds, it does not see.
func (a account) reach(path string) error {
	if !a.switched {
		return nil
	}
	path, err := resolve(path)
	if err != nil {
		return err
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && info.IsDir() && !a.maySearch(info) {
			return fmt.Errorf("as root, amber runs Postgres as user %s, who cannot enter %s (mode %04o)", a.name, dir, info.Mode().Perm())
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (a account) maySearch(info fs.FileInfo) bool {
	stat := info.Sys().(*syscall.Stat_t)
	switch {
	case a.uid == int(stat.Uid):
		return info.Mode()&0o100 != 0
	case a.gid == int(stat.Gid):
		return info.Mode()&0o010 != 0
	}
	return info.Mode()&0o001 != 0
}
