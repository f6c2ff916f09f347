package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Machine is where amber ran. What it could not find out is zero.
type Machine struct {
	CPU       string `json:"cpu"` // model
	CPUs      int    `json:"cpus"`
	MemoryMiB int    `json:"memory_mib"`
	Kernel    string `json:"kernel"`
	Platform  string `json:"platform"`
	Go        string `json:"go"`
	Load      string `json:"load"` // of the last minute, before anything was measured: a busy machine's figures are its own
}

func thisMachine() Machine {
	m := Machine{CPU: field("/proc/cpuinfo", "model name"), CPUs: runtime.NumCPU(), Kernel: first("/proc/sys/kernel/osrelease"),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Load: first("/proc/loadavg")}
	if words := strings.Fields(field("/proc/meminfo", "MemTotal")); len(words) == 2 {
		kib, _ := strconv.Atoi(words[0])
		m.MemoryMiB = kib >> 10
	}
	return m
}

// first is the first word of a file, "" if it cannot be read.
func first(file string) string {
	text, _ := os.ReadFile(file)
	word, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	return word
}

// field is what stands behind "name:" in a file, "" if nothing does.
func field(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// resident is how much memory this process has, in MiB; 0 where it cannot be told.
func resident() float64 {
	words := strings.Fields(field("/proc/self/status", "VmRSS"))
	if len(words) != 2 {
		return 0
	}
	kib, _ := strconv.ParseFloat(words[0], 64)
	return kib / 1024
}

// Postgres is what amber ran on.
type Postgres struct {
	Version  string            `json:"version"`
	Pooler   string            `json:"pooler"`
	Embedded bool              `json:"embedded"` // it was started for this, with an empty database
	Settings map[string]string `json:"settings"`
}

// postgresSettings are those that figures depend on most.
var postgresSettings = []string{"fsync", "synchronous_commit", "full_page_writes", "wal_level", "wal_compression", "shared_buffers", "max_connections"}

func (s *stage) postgres(ctx context.Context) (Postgres, error) {
	p := Postgres{Pooler: string(s.config.Pooler), Embedded: s.database.Embedded(), Settings: map[string]string{}}
	rows, err := s.pool.Query(ctx, `select name, current_setting(name) from unnest(array_append(@names::text[], 'server_version')) name`,
		pgx.StrictNamedArgs{"names": postgresSettings})
	if err != nil {
		return p, fmt.Errorf("read Postgres's settings: %w", err)
	}
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		p.Settings[name] = value
		return nil
	}); err != nil {
		return p, fmt.Errorf("read Postgres's settings: %w", err)
	}
	p.Version = p.Settings["server_version"]
	delete(p.Settings, "server_version")
	return p, nil
}
