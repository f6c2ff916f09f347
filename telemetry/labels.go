package telemetry

import (
	"strings"
	"sync"
)

// labels are the values that a label may have: those that were known before, and
// others first come, first served, up to most of them. All that come later share one.
// Names are chosen by the authors of tasks; each is a time series in the memory of this
// host and of whoever collects them. It is safe for concurrent use.
type labels struct {
	most int

	mu    sync.RWMutex
	known map[string]string
}

// other stands for all names that there are too many of.
const other = "other"

// mostBytes is how long a name may be as a label.
const mostBytes = 100

func newLabels(most int, known ...string) *labels {
	l := &labels{most: most + len(known), known: make(map[string]string, len(known))}
	for _, name := range known {
		l.known[name] = name
	}
	return l
}

// of is the label of a name.
func (l *labels) of(name string) string {
	name = clip(name)
	if name == "" {
		return ""
	}
	l.mu.RLock()
	label, ok := l.known[name]
	full := len(l.known) >= l.most
	l.mu.RUnlock()
	if ok {
		return label
	}
	if full {
		return other
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if label, ok := l.known[name]; ok {
		return label
	}
	if len(l.known) >= l.most {
		return other
	}
	name = strings.Clone(name) // what it is part of may be large
	l.known[name] = name
	return name
}

// clip makes a name one that everybody takes.
func clip(name string) string {
	if len(name) > mostBytes {
		name = name[:mostBytes]
	}
	return strings.ToValidUTF8(name, "")
}
