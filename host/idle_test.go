package host_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/host"
)

// TestIdleConnections: connections between two requests cost little, the last
// no more than the first, and nothing when they are gone. AMBER_LONG=1 opens
// 10,000 instead of 2,000: that takes 10,100 open files (ulimit -n).
//
// It does not run beside other tests, whose memory it would measure.
func TestIdleConnections(t *testing.T) {
	half := 1000
	if os.Getenv("AMBER_LONG") != "" {
		half = 5000
	}
	address := gate(t, host.Config{}, function("see", sees))
	start := measure(t)
	first := startIdle(t, address, half)
	one := measure(t)
	second := startIdle(t, address, half)
	two := measure(t)
	before, grown := one.less(start), two.less(one)
	t.Logf("%d connections: heap and stacks %.1f MB, resident %.1f MB; as many again: %.1f MB, %.1f MB",
		half, before.heap, before.resident, grown.heap, grown.resident)
	if grown.heap > 1.3*before.heap {
		t.Errorf("the second %d connections took %.1f MB, the first %.1f MB", half, grown.heap, before.heap)
	}
	if each := before.heap * 1e6 / float64(half); each > 40_000 {
		t.Errorf("an idle connection takes %.0f bytes", each)
	}
	first.leave(t)
	second.leave(t)
	goroutines(t, start.goroutines)
	if left, taken := measure(t).less(start).heap, two.less(start).heap; left > taken/4 {
		t.Errorf("%.1f of %.1f MB are still taken when all have gone", left, taken)
	}
}

// idleClients is a process that has connections open.
type idleClients struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

const idleEnv = "AMBER_TEST_IDLE" // address and number

// startIdle opens n connections, each of which has had one answer. Another
// process does it, so that memory and open files of this one are the host's.
func startIdle(t *testing.T, address string, n int) *idleClients {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestIdleClients$")
	cmd.Env = append(os.Environ(), fmt.Sprint(idleEnv, "=", address, " ", n))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &idleClients{cmd, in, bufio.NewReader(out)}
	c.expect(t, "open")
	return c
}

func (c *idleClients) expect(t *testing.T, want string) {
	t.Helper()
	if line, err := c.out.ReadString('\n'); line != want+"\n" {
		rest, _ := io.ReadAll(c.out)
		t.Fatalf("clients: %q, %v, want %q\n%s", line, err, want, rest)
	}
}

// leave has every connection used once more, and closed.
func (c *idleClients) leave(t *testing.T) {
	t.Helper()
	c.in.Close()
	c.expect(t, "served again")
	_, _ = io.Copy(io.Discard, c.out)
	if err := c.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestIdleClients is the other process of startIdle, and elsewhere nothing.
func TestIdleClients(t *testing.T) {
	var address string
	var n int
	if _, err := fmt.Sscan(os.Getenv(idleEnv), &address, &n); err != nil {
		return
	}
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = dial(t, address)
		ask(t, conns[i])
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	for _, conn := range conns {
		ask(t, conn)
	}
	fmt.Println("served again")
}

func ask(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.WriteString(conn, "POST /functions/v1/see HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != 200 {
		t.Fatal(response.Status, err)
	}
}

// memory is what this process takes, in MB.
type memory struct {
	heap       float64 // and stacks
	resident   float64
	goroutines int
}

func (m memory) less(n memory) memory {
	return memory{m.heap - n.heap, m.resident - n.resident, m.goroutines - n.goroutines}
}

func measure(t *testing.T) memory {
	t.Helper()
	for range 3 { // a pool keeps what it has over two collections
		debug.FreeOSMemory()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return memory{float64(stats.HeapAlloc+stats.StackInuse) / 1e6, resident(t), runtime.NumGoroutine()}
}

// resident is 0 where there is no /proc.
func resident(t *testing.T) float64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	text, _, _ := strings.Cut(rest, "kB")
	kB, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatalf("VmRSS: %v", err)
	}
	return float64(kB) / 1e3
}

// goroutines waits until there are no more than n.
func goroutines(t *testing.T, n int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(patience); runtime.NumGoroutine() > n; {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%d goroutines, want %d", runtime.NumGoroutine(), n)
		}
	}
}
