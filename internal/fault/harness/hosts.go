package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/amberhost/amber/internal/failpoint"
	"github.com/amberhost/amber/internal/fault/pgproxy"
)

// Lease is how long the leases of the hosts are: a host that is stopped for
// longer has lost everything it held.
const Lease = 2 * time.Second

// env is what host n is started with.
func (p *play) env(n int, database string, more ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + p.Dir,
		"AMBER_DATABASE_URL=" + database, "AMBER_KEYS=" + p.secrets.ring(n), "SUPABASE_JWT_SECRET=" + p.secrets.jwtSecret,
		"AMBER_SERVICE_ROLE_KEY=" + p.secrets.serviceKey, "AMBER_CACHE=" + filepath.Join(p.Dir, "cache"),
		"AMBER_POOL_SIZE=5", "AMBER_DRAIN=2s", "AMBER_LOG_LEVEL=warn",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9", // nobody is there: spans are made, and lost
	}, more...)
}

// hostProcess is a host that is started again whenever it dies.
type hostProcess struct {
	play  *play
	n     int
	proxy *pgproxy.Proxy
	url   string // of its HTTP
	port  int
	log   string // which points it died at

	mu      sync.Mutex
	process *os.Process // nil between lives
	killed  string      // why this life is being ended from outside
	leaving bool
	done    chan struct{}
}

func (p *play) startHosts(ctx context.Context) error {
	for n := range p.Hosts {
		proxy, err := pgproxy.New(address(p.database.port()))
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		h := &hostProcess{play: p, n: n, proxy: proxy, port: port, url: fmt.Sprintf("http://127.0.0.1:%d", port),
			log: filepath.Join(p.Dir, fmt.Sprintf("points-%d", n)), done: make(chan struct{})}
		p.hosts = append(p.hosts, h)
		go h.live(ctx)
	}
	return nil
}

// stopHosts tells all to leave, and waits until they have.
func (p *play) stopHosts() error {
	var errs []error
	for _, h := range p.hosts {
		h.mu.Lock()
		h.leaving = true
		h.mu.Unlock()
		h.signal(syscall.SIGCONT, "")
		h.signal(syscall.SIGTERM, "told to leave")
	}
	for _, h := range p.hosts {
		select {
		case <-h.done:
		case <-time.After(30 * time.Second):
			errs = append(errs, fmt.Errorf("host %d does not leave", h.n))
			h.signal(syscall.SIGKILL, "does not leave")
		}
		h.proxy.Close()
	}
	return errors.Join(errs...)
}

// live starts one life after another.
func (h *hostProcess) live(ctx context.Context) {
	defer close(h.done)
	for life := 0; ctx.Err() == nil; life++ {
		h.mu.Lock()
		leaving := h.leaving
		h.mu.Unlock()
		if leaving {
			return
		}
		if err := h.lead(ctx, life); err != nil {
			h.play.odd(fmt.Sprintf("host %d, life %d: %v", h.n, life, err))
			time.Sleep(500 * time.Millisecond) // it would fail again at once
		}
	}
}

// lead leads one life. It fails if that ended as none should.
func (h *hostProcess) lead(ctx context.Context, life int) error {
	url, err := h.proxy.URL(h.play.database.where())
	if err != nil {
		return err
	}
	path := filepath.Join(h.play.Dir, fmt.Sprintf("host-%d.log", h.n))
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	fmt.Fprintf(out, "--- life %d\n", life)
	cmd := exec.CommandContext(ctx, h.play.program(), "serve")
	cmd.Dir = h.play.Dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = h.play.env(h.n, url, fmt.Sprintf("AMBER_PORT=%d", h.port), "AMBER_HOST_NAME="+fmt.Sprint("host", h.n),
		fmt.Sprintf("AMBER_LIMIT_MEMORY=%dMiB", 64+h.n+h.play.Hosts*h.play.image(life)), // which makes an image of its own
		"AMBER_FAULT_LEDGER="+h.play.at, "AMBER_FAULT_LEASE="+Lease.String(),
		failpoint.Env+"="+h.play.arm(nil), failpoint.LogEnv+"="+h.log)
	deaths := h.play.countDeaths(h.log, func() {
		if err = cmd.Start(); err != nil {
			return
		}
		h.mu.Lock()
		h.process, h.killed = cmd.Process, ""
		h.mu.Unlock()
		err = cmd.Wait()
	})
	h.mu.Lock()
	h.process = nil
	killed, leaving := h.killed, h.leaving
	h.mu.Unlock()
	var exit *exec.ExitError
	switch {
	case deaths > 0, killed != "", leaving, ctx.Err() != nil:
		return nil
	case err == nil:
		return errors.New("it left without being told to")
	case errors.As(err, &exit) && exit.ExitCode() == 1 && h.play.database.spoilt():
		return nil // it could not start
	case errors.As(err, &exit) && exit.ExitCode() == 1 && lacksKey(path):
		h.play.count(h.play.report.Faults, "refused to start beside a host that lacks its key")
		pause(ctx, 500*time.Millisecond)
		return nil // a host that was stopped meanwhile has yet to be told to leave
	}
	return fmt.Errorf("%w: see %s", err, path)
}

// lacksKey reports whether the last thing that a host said is that another one lacks
// the key that it is to seal with.
func lacksKey(log string) bool {
	text, err := os.ReadFile(log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return err == nil && strings.Contains(lines[len(lines)-1], "runs without key")
}

// renew tells the hosts to leave, one after another, as whoever gives them other
// settings does. In a long run one sleeps from each time to the next: it lacks the
// key that the others seal with then, and does what it can before it leaves.
func (p *play) renew(ctx context.Context, turn int) {
	var asleep, next *hostProcess
	if p.Trees >= long {
		asleep, next = p.hosts[turn%len(p.hosts)], p.hosts[(turn+1)%len(p.hosts)]
	}
	for _, h := range p.hosts {
		if h != asleep && h != next {
			h.signal(syscall.SIGTERM, "told to leave")
			pause(ctx, 2*time.Second)
		}
	}
	if asleep != nil {
		p.database.spoil(10 * time.Second) // hosts that begin to seal with a key refuse to start beside one that lacks it
		asleep.signal(syscall.SIGCONT, "")
		pause(ctx, 4*time.Second)
		asleep.signal(syscall.SIGTERM, "told to leave")
		next.signal(syscall.SIGSTOP, "")
	}
}

// signal sends a signal to the host, if it lives, and notes why.
func (h *hostProcess) signal(s syscall.Signal, why string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.process == nil {
		return false
	}
	if why != "" {
		h.killed = why
	}
	return h.process.Signal(s) == nil
}

// countDeaths counts at which points a process dies that does what f does, and
// writes them to log.
func (p *play) countDeaths(log string, f func()) (deaths int) {
	before, _ := os.ReadFile(log)
	f()
	after, _ := os.ReadFile(log)
	for point := range strings.Lines(string(after[len(before):])) {
		p.count(p.report.Kills, strings.TrimSuffix(point, "\n"))
		deaths++
	}
	return deaths
}

// A life is armed with some points: the first that it has passed often enough ends it.
// To start a host takes as long as some trees.
const (
	armed  = 3  // points
	passes = 60 // of each at most
)

// image is which of some images a life has: it makes one if it is new, so short runs
// have one for each host.
func (p *play) image(life int) int {
	if p.Trees < long {
		return 0
	}
	return life % 4
}

// hunters: one in so many lives is for the points at which none has ended yet. It is
// short: a run that has to be, too, has few of them.
func (p *play) hunters() int {
	if p.Trees < long {
		return 12
	}
	return 2
}

// arm chooses the points of a life among those that are wanted, nil for all. Some
// of the lives, and all of those that come to few points, are for the points at which
// none has ended yet: they end at the first of those that they come to. The others are armed with a few of any, half
// of them those at which the fewest ended, and pass them some times.
func (p *play) arm(wanted func(string) bool) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	candidates := slices.Clone(p.points)
	if wanted != nil {
		candidates = slices.DeleteFunc(candidates, func(point string) bool { return !wanted(point) })
	}
	for i := range candidates {
		j := p.rand.IntN(i + 1)
		candidates[i], candidates[j] = candidates[j], candidates[i]
	}
	unhit := slices.DeleteFunc(slices.Clone(candidates), func(point string) bool { return p.report.Kills[point] > 0 })
	var list []string
	if len(unhit) > 0 && (wanted != nil || p.rand.IntN(p.hunters()) == 0) {
		for _, point := range unhit {
			list = append(list, point+"=1")
		}
		return strings.Join(list, ";")
	}
	if len(candidates) > armed {
		slices.SortStableFunc(candidates[armed/2:], func(a, b string) int { return p.report.Kills[a] - p.report.Kills[b] })
	}
	for i, point := range candidates[:min(armed, len(candidates))] {
		times := 1 + p.rand.IntN(passes)
		if i == 0 && p.rand.IntN(3) == 0 { // what is passed but once in a life
			times = 1
		}
		list = append(list, fmt.Sprintf("%s=%d", point, times))
	}
	return strings.Join(list, ";")
}

func (p *play) count(counts map[string]int, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts[what]++
}

// odd notes what should not have happened, and is no violation of a promise.
func (p *play) odd(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what = strings.Join(strings.Fields(what), " ")
	p.report.Odd = append(p.report.Odd, what[:min(len(what), 500)])
	fmt.Fprintln(p.Say, "odd:", what)
}

func (p *play) deaths() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.report.Kills {
		n += k
	}
	return n
}
