package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// These tests run the program as a user does: `amber dev` as a process of its
// own, with a real Postgres, and the other commands against it. One host serves all
// tests but those that kill theirs.

const patience = 2 * time.Minute // for anything to happen

var (
	binary = sync.OnceValues(buildBinary)
	shared = sync.OnceValues(startShared)
	atEnd  []func() error
)

func TestMain(m *testing.M) {
	code := m.Run()
	for i := len(atEnd) - 1; i >= 0; i-- {
		if err := atEnd[i](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// buildBinary builds without the race detector even where it watches the
// tests: compiling the engine would take it longer than all tests together.
func buildBinary() (string, error) {
	dir, err := os.MkdirTemp("", "amber-test-bin-")
	if err != nil {
		return "", err
	}
	atEnd = append(atEnd, func() error { return os.RemoveAll(dir) })
	file := filepath.Join(dir, "amber")
	if out, err := exec.Command("go", "build", "-o", file, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build amber: %w\n%s", err, out)
	}
	return file, nil
}

func startShared() (*devHost, error) {
	h, err := newDevHost()
	if err != nil {
		return nil, err
	}
	atEnd = append(atEnd, func() error { return errors.Join(h.stop(), h.remove()) })
	return h, h.start()
}

// hostURL returns the address of a host with the example tasks.
func hostURL(t *testing.T) string {
	t.Helper()
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return h.url
}

// on adds the address of the shared host to args.
func on(t *testing.T, args ...string) []string {
	t.Helper()
	return append(args, "--url", hostURL(t))
}

// devHost is `amber dev` with ports and data of its own.
type devHost struct {
	binary, port, dbPort, data string
	url                        string
	process                    *exec.Cmd // nil while it does not run
	out                        *console  // of the latest process
}

func newDevHost() (*devHost, error) {
	binary, err := binary()
	if err != nil {
		return nil, err
	}
	port, dbPort, err := freePorts()
	if err != nil {
		return nil, err
	}
	// Postgres must reach its data whoever it runs as, hence not testing.T's directory.
	data, err := os.MkdirTemp("", "amber-test-")
	if err != nil {
		return nil, err
	}
	h := &devHost{binary: binary, port: port, dbPort: dbPort, data: data, url: "http://127.0.0.1:" + port}
	return h, os.Chmod(data, 0o755)
}

func freePorts() (a, b string, err error) {
	var ports [2]string
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", err
		}
		defer l.Close()
		ports[i] = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	}
	return ports[0], ports[1], nil
}

// start returns when the host is ready.
func (h *devHost) start() error {
	// No test's context: a process that is killed leaves its Postgres behind.
	h.process = exec.CommandContext(context.Background(), h.binary, "dev", "--port", h.port, "--db-port", h.dbPort, "--data", h.data)
	h.process.Env = append(os.Environ(), "DATABASE_URL=")
	h.out = newConsole()
	h.process.Stdout, h.process.Stderr = h.out, h.out
	if err := h.process.Start(); err != nil {
		h.process = nil
		return err
	}
	return h.out.await("amber is ready")
}

// kill ends the host without a warning; its Postgres goes on.
func (h *devHost) kill() error {
	err := h.signal(syscall.SIGKILL)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("the host survived: %w", err)
	}
	return nil
}

// stop ends the host in order, if it runs.
func (h *devHost) stop() error {
	if h.process == nil {
		return nil
	}
	err := h.signal(syscall.SIGTERM)
	if err != nil || !strings.Contains(h.out.String(), "stopped; ") {
		return fmt.Errorf("amber dev did not stop as it should: %v\n%s", err, h.out)
	}
	return nil
}

func (h *devHost) signal(s syscall.Signal) error {
	err := h.process.Process.Signal(s)
	err = errors.Join(err, h.process.Wait())
	h.process = nil
	return err
}

func (h *devHost) remove() error { return os.RemoveAll(h.data) }

// run is the program in this process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	return (&program{stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv}).run(ctx, args)
}

// amber runs the program to its end.
func amber(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	code = run(ctx, args, strings.NewReader(""), &out, &errs, noEnv)
	return code, out.String(), errs.String()
}

func noEnv(string) string { return "" }

// console keeps what is written to it and lets others wait for a text.
type console struct {
	mu    sync.Mutex
	text  bytes.Buffer
	more  chan struct{} // closed and renewed by each write
	ended bool
}

func newConsole() *console { return &console{more: make(chan struct{})} }

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renew()
	return c.text.Write(p)
}

// end tells those who wait that nothing more will be written.
func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.renew()
}

func (c *console) renew() {
	close(c.more)
	c.more = make(chan struct{})
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// now returns what is there, a channel that tells of more, and whether there will be none.
func (c *console) now() (text string, more chan struct{}, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String(), c.more, c.ended
}

// await waits until text has been written.
func (c *console) await(text string) error {
	deadline := time.After(patience)
	for {
		written, more, ended := c.now()
		if strings.Contains(written, text) {
			return nil
		}
		if ended {
			return fmt.Errorf("no %q before the end:\n%s", text, c)
		}
		select {
		case <-more:
		case <-deadline:
			return fmt.Errorf("no %q after %v:\n%s", text, patience, c)
		}
	}
}
