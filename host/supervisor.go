package host

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"
)

// Supervisor is a service manager that hears how the host is: systemd, or
// another that speaks its protocol, sd_notify(3). The zero value is nobody.
type Supervisor struct {
	Socket   string        // a datagram socket; one that begins with @ has no file
	Watchdog time.Duration // how long the host may be silent before it is taken for dead; 0 means for ever
}

// What a host tells its supervisor.
const (
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
	notifyAlive    = "WATCHDOG=1"
)

// takeSupervisor reads what systemd tells the services that it starts.
func (c *Config) takeSupervisor(getenv func(string) string) error {
	c.Supervisor.Socket = getenv("NOTIFY_SOCKET")
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil // it is for another process, of which this one is a child
	}
	text := getenv("WATCHDOG_USEC")
	if text == "" {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return fmt.Errorf("WATCHDOG_USEC: %q is not a number of microseconds", text)
	}
	c.Supervisor.Watchdog = time.Duration(n) * time.Microsecond
	return nil
}

// tell sends a message, and logs that it did not arrive: the host's work is not to suffer.
func (s Supervisor) tell(log *slog.Logger, state string) {
	if s.Socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.Socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		conn.Close()
	}
	if err != nil {
		log.Warn("the supervisor does not hear", "state", state, "err", err)
	}
}

// watch says that the host is alive, twice as often as it must, until ctx is done.
func (s Supervisor) watch(ctx context.Context, log *slog.Logger) {
	if s.Socket == "" || s.Watchdog == 0 {
		return
	}
	tick := time.NewTicker(s.Watchdog / 2)
	defer tick.Stop()
	for {
		s.tell(log, notifyAlive)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
