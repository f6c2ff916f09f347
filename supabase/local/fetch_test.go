package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/supabase/local"
)

// TestFetch: two hosts start at once on a machine without Postgres.
func TestFetch(t *testing.T) {
	t.Parallel()
	native := postgres17(t)
	m := mirrorOf(t, 17, jarOf(t, store(tarOfTree(t, native, "bin", "lib", "share"))), nil)
	cache := filepath.Join(pgtest.Dir(t), "cache")
	var log lines
	dirs := []string{pgtest.Dir(t), pgtest.Dir(t)}
	servers := make([]*local.Server, len(dirs))
	cfg := local.Bare(local.Config{CacheDir: cache, Repository: m.url() + "/", Log: log.logger()})
	var both sync.WaitGroup
	for i, dir := range dirs {
		cfg := cfg
		cfg.Dir = dir
		both.Go(func() { servers[i] = start(t, cfg) })
	}
	both.Wait()
	if n := m.downloads.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	for _, s := range servers {
		if got := query(t, s, "select current_setting('server_version')"); got != "17.10" {
			t.Errorf("runs %s", got)
		}
	}
	progress := log.matching("fetching Postgres 17.10: ")
	if len(progress) < 5 || !regexp.MustCompile(`: (\d+) of (\d+) MB$`).MatchString(progress[0]) {
		t.Fatalf("progress: %q", progress)
	}
	var came, all int
	last := progress[len(progress)-1]
	if _, err := fmt.Sscanf(last, "fetching Postgres 17.10: %d of %d MB", &came, &all); err != nil || came != all {
		t.Errorf("it ends with %q, %v", last, err)
	}
	if got := names(t, cache); !slices.Equal(got, []string{"17.10.0", "lock"}) {
		t.Errorf("the cache has %q", got)
	}
	stop(t, servers[0])
	stop(t, servers[1])

	m.Close()
	cfg.Dir, cfg.Offline = dirs[0], true
	if s := start(t, cfg); query(t, s, "select 1::text") != "1" {
		t.Error("does not start from the cache")
	}
}

// TestFetchRefused: nothing comes of it, nothing stays of it, and the user
// hears why and what to do.
func TestFetchRefused(t *testing.T) {
	t.Parallel()
	good := compress(t, scripts(t, "17.10"))
	release := local.ReleaseOf(17)
	answer := func(suffix string, handle http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, suffix) {
				return false
			}
			handle(w, r)
			return true
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	text := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
	}
	for name, test := range map[string]struct {
		before func(http.ResponseWriter, *http.Request) bool
		jar    string
		change func(*local.Config, *mirror)
		want   []string
	}{
		"offline":         {change: func(c *local.Config, _ *mirror) { c.Offline = true }, want: []string{"downloads are switched off"}},
		"no network":      {change: func(_ *local.Config, m *mirror) { m.Close() }, want: []string{"there is no network, or no way to 127.0.0.1:", "connection refused"}},
		"no URL":          {change: func(c *local.Config, _ *mirror) { c.Repository = "mirror/maven" }, want: []string{"AMBER_POSTGRES_REPOSITORY", "http or https URL"}},
		"no such release": {before: answer("", status(404)), want: []string{"does not have it", release + ".jar", "404"}},
		"no archive":      {before: answer(".jar", status(404)), want: []string{"does not have it", release + ".jar", "404"}},
		"server trouble":  {before: answer(".jar", status(503)), want: []string{"answers 503 Service Unavailable"}},
		"odd checksum":    {before: answer(".sha256", text("<html>")), want: []string{release + ".jar.sha256 is no SHA-256"}},
		"no checksum":     {before: answer(".sha256", text("")), want: []string{"is no SHA-256"}},
		"wrong checksum":  {before: answer(".jar", text("something else")), want: []string{"has the SHA-256", "damaged or changed", "try again"}},
		"broken off": {before: answer(".jar", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3000000")
			w.Write(make([]byte, 1500000))
		}), want: []string{"broke off after 2 of 3 MB", "try again"}},
		"no zip":         {jar: fileWith(t, "jar", "PK?"), want: []string{"unpack", "the archive is corrupt", "zip"}},
		"nothing inside": {jar: jarOf(t, nil), want: []string{"the archive is corrupt", "no .txz"}},
		"no xz":          {jar: jarOf(t, []byte("tar?")), want: []string{"the archive is corrupt"}},
		"half an xz":     {jar: jarOf(t, good[:len(good)/2]), want: []string{"the archive is corrupt"}},
		"bad xz check":   {jar: jarOf(t, flipped(store(scripts(t, "17.10")), -26)), want: []string{"the archive is corrupt"}},
		"no tar":         {jar: jarOf(t, compress(t, bytes.Repeat([]byte("x"), 2000))), want: []string{"the archive is corrupt", "tar"}},
		"a way out":      {jar: jarOf(t, compress(t, climbing(t))), want: []string{"the archive is corrupt", `"../out"`}},
		"a link out":     {jar: jarOf(t, compress(t, linking(t))), want: []string{"escapes"}},
		"another version": {jar: jarOf(t, compress(t, scripts(t, "17.1"))),
			want: []string{"does not run on this machine", "it is Postgres 17.1 and not 17.10"}},
		"another machine's": {jar: jarOf(t, compress(t, bytes.ReplaceAll(scripts(t, "17.10"), []byte("echo 'postgres"), []byte("tail /absent #")))),
			want: []string{"does not run on this machine", "/absent"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			jar := test.jar
			if jar == "" {
				jar = jarOf(t, good)
			}
			m := mirrorOf(t, 17, jar, test.before)
			dir := pgtest.Dir(t)
			cfg := scripted(t, dir, m.url())
			if test.change != nil {
				test.change(&cfg, m)
			}
			_, err := local.Start(t.Context(), cfg)
			refused(t, err, local.ErrNoBinaries, append(test.want, "none in PATH", "Postgres 17.10 was not fetched",
				"apt-get install postgresql", "AMBER_POSTGRES_BIN", "--database-url")...)
			if got := names(t, dir); slices.Contains(got, "db") || slices.Contains(got, "out") {
				t.Errorf("it left %q", got)
			}
			if got := names(t, cfg.CacheDir); len(got) > 1 || len(got) == 1 && got[0] != "lock" {
				t.Errorf("the cache has %q", got)
			}
		})
	}
}

// TestFetchIsKilled leaves what a killed download leaves, and goes on.
func TestFetchIsKilled(t *testing.T) {
	if dir := os.Getenv("LOCAL_TEST_FETCH"); dir != "" {
		_, err := local.Start(t.Context(), scripted(t, dir, os.Getenv("LOCAL_TEST_MIRROR")))
		t.Fatalf("not killed: %v", err)
	}
	t.Parallel()
	jar := jarOf(t, compress(t, scripts(t, "17.10")))
	halfway := make(chan bool)
	var served atomic.Bool
	m := mirrorOf(t, 17, jar, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, ".jar") || served.Swap(true) {
			return false
		}
		w.Header().Set("Content-Length", "100000")
		w.Write(make([]byte, 5000))
		w.(http.Flusher).Flush()
		halfway <- true
		<-r.Context().Done()
		return true
	})
	dir := pgtest.Dir(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestFetchIsKilled$")
	cmd.Env = append(os.Environ(), "LOCAL_TEST_FETCH="+dir, "LOCAL_TEST_MIRROR="+m.url())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-halfway
	if got := names(t, filepath.Join(dir, "cache")); len(got) != 2 || !strings.HasPrefix(got[0], ".new-") {
		t.Errorf("halfway, the cache has %q", got)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // says that it was killed

	_, err := local.Start(t.Context(), scripted(t, dir, m.url()))
	refused(t, err, nil, "only a script")
	if got := names(t, filepath.Join(dir, "cache")); !slices.Equal(got, []string{local.ReleaseOf(17), "lock"}) {
		t.Errorf("the cache has %q", got)
	}
}

func TestFetchIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	m := mirrorOf(t, 17, jarOf(t, nil), func(w http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	})
	dir := pgtest.Dir(t)
	if _, err := local.Start(ctx, scripted(t, dir, m.url())); !errors.Is(err, context.Canceled) {
		t.Errorf("Start = %v, want Canceled", err)
	}
	if got := names(t, filepath.Join(dir, "cache")); !slices.Equal(got, []string{"lock"}) {
		t.Errorf("the cache has %q", got)
	}
}

// TestFetchesTheDataDirectorysVersion, and nothing else, whatever the machine has.
func TestFetchesTheDataDirectorysVersion(t *testing.T) {
	t.Parallel()
	m := mirrorOf(t, 16, jarOf(t, compress(t, scripts(t, "16.14"))), nil)
	dir := pgtest.Dir(t)
	cfg := scripted(t, dir, m.url())
	data := filepath.Join(cfg.Dir, "data")
	writeData := func(major string) {
		if err := os.MkdirAll(data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(major+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		chownLike(t, cfg.Dir, data)
	}
	writeData("16")
	_, err := local.Start(t.Context(), cfg) // no database, and only scripts
	refused(t, err, nil, "it ended at once", "server.log")
	if got := names(t, cfg.CacheDir); !slices.Equal(got, []string{local.ReleaseOf(16), "lock"}) {
		t.Errorf("the cache has %q", got)
	}

	writeData("15")
	_, err = local.Start(t.Context(), cfg)
	refused(t, err, local.ErrNoBinaries, "made by Postgres 15", "this machine has none", "Postgres 15.18 was not fetched", "does not have it",
		"install Postgres 15", "AMBER_POSTGRES_BIN", "--data")

	writeData("14")
	_, err = local.Start(t.Context(), cfg)
	refused(t, err, local.ErrNoBinaries, "made by Postgres 14", "install Postgres 14")
}

// TestOlderRelease: an amber that knows a newer release, and no network.
func TestOlderRelease(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	cfg := scripted(t, dir, "")
	cfg.Offline = true
	bin := filepath.Join(cfg.CacheDir, "17.2.0", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for program, script := range map[string]string{"postgres": "echo 'postgres (PostgreSQL) 17.2'", "initdb": "echo an older script; exit 1"} {
		if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var log lines
	cfg.Log = log.logger()
	_, err := local.Start(t.Context(), cfg)
	refused(t, err, nil, "an older script")
	if len(log.matching("using an older Postgres")) != 1 {
		t.Errorf("the log: %q", log.text.String())
	}
}

func TestRepositoryPasswordStaysSecret(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]http.HandlerFunc{
		"corrupt":    nil,
		"absent":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"in trouble": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"damaged":    func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("0", 64)) },
		"odd":        func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "odd") },
		"broken off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		m := mirrorOf(t, 17, jarOf(t, nil), func(w http.ResponseWriter, r *http.Request) bool {
			if user, password, _ := r.BasicAuth(); user != "ada" || password != "hush" {
				t.Errorf("asked by %q", user)
			}
			if handle != nil {
				handle(w, r)
			}
			return handle != nil
		})
		var log lines
		cfg := scripted(t, pgtest.Dir(t), strings.Replace(m.url(), "://", "://ada:hush@", 1))
		cfg.Log = log.logger()
		_, err := local.Start(t.Context(), cfg)
		refused(t, err, local.ErrNoBinaries, "://ada:xxxxx@127.0.0.1")
		if said := fmt.Sprint(err, log.text.String()); strings.Contains(said, "hush") {
			t.Errorf("%s: %s", name, said)
		}
	}
}

func TestRefusesAnUnreachableCache(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root runs Postgres as another user")
	}
	m := mirrorOf(t, 17, jarOf(t, compress(t, scripts(t, "17.10"))), nil)
	cfg := scripted(t, pgtest.Dir(t), m.url())
	cfg.CacheDir = t.TempDir() // below a directory of mode 0700
	_, err := local.Start(t.Context(), cfg)
	refused(t, err, local.ErrNoBinaries, "cannot enter "+filepath.Dir(cfg.CacheDir), "mode 0700")
}

// scripted is the configuration of a bare machine, all below one directory.
func scripted(t *testing.T, dir, repository string) local.Config {
	return local.Bare(local.Config{
		Dir: filepath.Join(dir, "db"), CacheDir: filepath.Join(dir, "cache"), Repository: repository, Port: freePort(t),
	})
}

func climbing(t *testing.T) []byte {
	return tarOf(t, tarFile("../out", "I am out"))
}

func linking(t *testing.T) []byte {
	return tarOf(t, tarLink("lib", "../../.."), tarFile("lib/out", "I am out"))
}

// flipped changes a byte, counted from the end.
func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[len(b)+at] ^= 1
	return b
}

// names lists a directory; one that is not there has nothing in it.
func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// matching returns the messages that begin so.
func (l *lines) matching(prefix string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if message, ok := strings.CutPrefix(strings.TrimSpace(line), `msg="`); ok && strings.HasPrefix(message, prefix) {
			message, _, _ = strings.Cut(message, `"`)
			found = append(found, message)
		}
	}
	return found
}
