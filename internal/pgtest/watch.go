package pgtest

import (
	"os"
	"os/exec"
	"syscall"
)

// watcher waits until its standard input ends, which happens when the process
// that holds the other end is gone, and then stops the server in a directory
// and removes both.
const watcher = `
cat >/dev/null
pidfile=$1/data/postmaster.pid
pid=$(head -n 1 "$pidfile") && kill -QUIT "$pid" && {
	n=0 # Postgres removes the file last; a killed one does not
	while [ -e "$pidfile" ] && [ $n -lt 100 ]; do sleep 0.02; n=$((n+1)); done
}
rm -rf "$1"
`

// watch starts the watcher of a directory, which acts when the returned file is
// closed. There is no hook at the end of a test process that a panic, a timeout
// or a kill would not skip; the kernel closing our files is one.
func watch(dir string) (lifeline *os.File, err error) {
	r, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", watcher, "sh", dir)
	cmd.Dir = "/"
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	if err := cmd.Start(); err != nil {
		lifeline.Close()
		return nil, err
	}
	return lifeline, nil
}
