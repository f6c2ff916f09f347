package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
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

// TestServeGivesNotice: after a signal /ready says that the host drains, and all
// else is as before until the notice is over, or a second signal comes.
func TestServeGivesNotice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "twice.js"), []byte("module.exports = async (n, { tools }) => { await tools.sleep(1); return 2 * n; };"), 0o644))
	p := serving(t, nil, "--drain-notice", "10m")
	found, err := p.await(regexp.MustCompile(`ready: (http://\S+),`))
	must(t, err)
	ready := func() (status int, closes bool) {
		t.Helper()
		response, err := http.Get(found[1] + "/ready")
		must(t, err)
		defer response.Body.Close()
		return response.StatusCode, response.Close
	}
	if status, _ := ready(); status != http.StatusOK {
		t.Errorf("ready: %d", status)
	}
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	_, err = p.await(regexp.MustCompile(`the drain begins soon: .*"in":"10m0s"`))
	must(t, err)
	if status, closes := ready(); status != http.StatusServiceUnavailable || closes {
		t.Errorf("ready after the signal: %d, closes the connection: %v", status, closes)
	}
	as := []string{"--url", found[1], "--key", "sb_secret_of-this-test-alone"}
	if code, _, stderr := amber(t, append([]string{"publish", filepath.Join(dir, "twice.js")}, as...)...); code != 0 {
		t.Errorf("publish after the signal: exit %d: %s", code, stderr)
	}
	if code, stdout, stderr := amber(t, append([]string{"run", "twice", "--input", "21"}, as...)...); code != 0 || stdout != "42\n" {
		t.Errorf("run after the signal: exit %d: %s%s", code, stdout, stderr)
	}
	select {
	case err := <-p.ended:
		t.Fatalf("the host did not wait: %v", err)
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
