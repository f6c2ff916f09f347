package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/amberhost/amber/internal/pgtest"
)

// serving starts amber serve on a database of its own.
func serving(t *testing.T, stdout *os.File, args ...string) *process {
	t.Helper()
	program, err := binary()
	must(t, err)
	h, err := shared()
	must(t, err)
	p := &process{stdout: newConsole(), stderr: newConsole(), ended: make(chan error, 1)}
	p.cmd = exec.Command(program, append([]string{"serve", "--port", "0", "--log-format", "json"}, args...)...)
	p.cmd.Env = []string{
		"DATABASE_URL=" + pgtest.New(t),
		"AMBER_KEYS=k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"SUPABASE_SECRET_KEY=sb_secret_of-this-test-alone",
		"AMBER_CACHE=" + filepath.Join(h.data, "cache"),
	}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	must(t, p.cmd.Start())
	go p.wait()
	t.Cleanup(p.cleanUp)
	return p
}

// TestServeStopsAtOnce: the second signal waits for nobody.
func TestServeStopsAtOnce(t *testing.T) {
	t.Parallel()
	p := serving(t, nil, "--drain", "10m")
	found, err := p.await(regexp.MustCompile(`ready: http://(\S+),`))
	must(t, err)

	// A request that keeps the host busy: it says that it reads, and there is nothing to read.
	conn, err := net.Dial("tcp", found[1])
	must(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST /functions/v1/tasks/execute HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
		"Apikey: sb_secret_of-this-test-alone\r\nContent-Length: 99\r\nExpect: 100-continue\r\n\r\n", found[1])
	must(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("the host says %q, %v", line, err)
	}

	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	_, err = p.await(regexp.MustCompile(`stopping: .* a second signal stops at once`))
	must(t, err)
	select {
	case err := <-p.ended:
		t.Fatalf("the host did not wait for a request: %v", err)
	default:
	}
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-p.ended:
		p.ended <- err
		if code := exitOf(err); code != -1 { // the signal's
			t.Errorf("exit %d", code)
		}
	case <-time.After(patience):
		t.Error("the host goes on")
	}
}

// TestServeOutlivesItsReader: whoever reads the output may go away.
func TestServeOutlivesItsReader(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	must(t, err)
	must(t, read.Close())
	port, _, err := freePorts()
	must(t, err)
	p := serving(t, write, "--port", port, "--verbose")
	must(t, write.Close())
	_, err = p.await(regexp.MustCompile(`"msg":"ready"`))
	must(t, err)
	code, _, stderr := amber(t, "status", "--url", "http://127.0.0.1:"+port)
	if code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	if err := <-p.ended; err != nil {
		t.Errorf("%v\n%s", err, p.stderr)
	}
	p.ended <- nil
}
