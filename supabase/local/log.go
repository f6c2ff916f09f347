package local

import (
	"io"
	"os"
	"strings"
	"syscall"
)

const (
	maxLog   = 16 << 20 // bytes, when a new log is begun at a start
	tailSize = 4 << 10  // bytes of the log that an error looks at
	tailLen  = 12       // lines of them that it shows
)

// serverLog is the file that a Postgres writes to, and where this run of it began.
type serverLog struct {
	*os.File
	start int64
}

func openLog(l layout) (*serverLog, error) {
	if info, err := os.Stat(l.log); err == nil && info.Size() > maxLog {
		if err := os.Rename(l.log, l.log+".1"); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(l.log, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	log := &serverLog{File: f}
	log.begin()
	return log, nil
}

// begin makes what follows the run that tail is about.
func (l *serverLog) begin() { l.start, _ = l.Seek(0, io.SeekEnd) } // 0 shows too much at worst

// tail returns the last lines of a log from where a run began; "" where it
// cannot be read.
func (l layout) tail(start int64) string {
	f, err := os.OpenFile(l.log, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	return (&serverLog{f, start}).tail()
}

// tail returns the last lines of this run.
func (l *serverLog) tail() string {
	end, err := l.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	from := max(l.start, end-tailSize)
	text := make([]byte, end-from)
	n, _ := l.ReadAt(text, from)
	return lastLines(string(text[:n]))
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLen):], "\n")
}
