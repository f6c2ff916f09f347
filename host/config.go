package host

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/supabase/local"
)

// DefaultPort is the port of a local Supabase project's API.
const DefaultPort = 54321

// DefaultBodyLimit is how many bytes a request may bring by default.
const DefaultBodyLimit = 16 << 20

// Config is what a host is told. DataDir is required; all else zero is a closed
// host that nobody has a key for.
type Config struct {
	Port        int    // of HTTP on 127.0.0.1; 0 takes a free one
	DBPort      int    // of the embedded Postgres; 0 means local.DefaultPort
	DataDir     string // the embedded database and amber's own keys
	CacheDir    string // compiled code; "" means cache in DataDir
	TasksDir    string // tasks to publish and to watch; "" publishes the built-in examples, once
	DatabaseURL string // a Postgres to use instead of an embedded one
	DatabaseVia string // what gave DatabaseURL, for messages; "" means DATABASE_URL
	PostgresBin string // where the embedded Postgres has its programs; "" looks in the usual places

	// Open lets everybody call everything: callers without a valid key are
	// anon. It is for a developer's own machine.
	Open bool
	// Keys are the API keys that callers have.
	Keys keys.Set
	// AmberKeys encrypt what amber keeps ("id:base64,..."); "" uses the file
	// amber-keys in DataDir and makes it if need be.
	AmberKeys string

	BodyLimit int64        // bytes of a request's body; 0 means DefaultBodyLimit
	Log       *slog.Logger // nil discards
	Ready     func(Info)   // called once, when requests are being served
}

// ConfigFromEnv returns the configuration of a developer's host: open, with
// Supabase's local keys, and what these variables say:
//
//	AMBER_PORT          HTTP port (54321)
//	AMBER_DB_PORT       port of the embedded Postgres (54322)
//	AMBER_DATA          data directory (local.DefaultDir)
//	AMBER_POSTGRES_BIN  directory of postgres, initdb, ...
//	AMBER_KEYS          amber's own encryption keys, id:base64,...
//	DATABASE_URL        a Postgres of this machine to use instead of an embedded one
//
// Another machine's Postgres is refused: DATABASE_URL is set in many a shell, and
// not for amber, which migrates the database and lets everybody here use it. An error names the variable that is wrong.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	c := Config{
		DataDir:     getenv("AMBER_DATA"),
		DatabaseURL: getenv("DATABASE_URL"),
		PostgresBin: getenv("AMBER_POSTGRES_BIN"),
		AmberKeys:   getenv("AMBER_KEYS"),
		Open:        true,
		Keys:        keys.Local(),
	}
	if c.DataDir == "" {
		dir, err := local.DefaultDir(os.Geteuid())
		if err != nil {
			return Config{}, err
		}
		c.DataDir = dir
	}
	if c.DatabaseURL != "" {
		if err := ofThisMachine(c.DatabaseURL); err != nil {
			return Config{}, err
		}
	}
	if c.AmberKeys != "" {
		if _, err := keys.ParseRing(c.AmberKeys); err != nil {
			return Config{}, fmt.Errorf("AMBER_KEYS: %w", err)
		}
	}
	var err error
	if c.Port, err = port(getenv, "AMBER_PORT", DefaultPort); err != nil {
		return Config{}, err
	}
	c.DBPort, err = port(getenv, "AMBER_DB_PORT", local.DefaultPort)
	return c, err
}

func port(getenv func(string) string, name string, otherwise int) (int, error) {
	text := getenv(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 65535 {
		return 0, fmt.Errorf("%s: %q is not a port: want a number from 0 to 65535", name, text)
	}
	return n, nil
}

// Info says where a host that serves is to be found.
type Info struct {
	URL            string // http://127.0.0.1:54321
	FunctionsURL   string // URL + /functions/v1
	DatabaseURL    string
	Database       string   // which one that is, without its password: postgres at 127.0.0.1:54322
	Tasks          []string // of TasksDir, that are published
	DataDir        string
	AnonKey        string
	ServiceRoleKey string
	PublishableKey string
	SecretKey      string
	JWTSecret      string
}

// withDefaults fills in what may be left out.
func (c Config) withDefaults() Config {
	if c.CacheDir == "" {
		c.CacheDir = filepath.Join(c.DataDir, "cache")
	}
	if c.DatabaseVia == "" {
		c.DatabaseVia = "DATABASE_URL"
	}
	if c.BodyLimit == 0 {
		c.BodyLimit = DefaultBodyLimit
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Ready == nil {
		c.Ready = func(Info) {}
	}
	return c
}

// postgresDir is where the embedded Postgres is.
func (c Config) postgresDir() string { return filepath.Join(c.DataDir, "postgres") }

func (c Config) info(url string, b *building) Info {
	return Info{
		URL:            url,
		FunctionsURL:   url + prefix,
		DatabaseURL:    b.database.url,
		Database:       b.database.name(),
		Tasks:          b.tasks,
		DataDir:        c.DataDir,
		AnonKey:        c.Keys.AnonKey,
		ServiceRoleKey: c.Keys.ServiceRoleKey,
		PublishableKey: c.Keys.PublishableKey,
		SecretKey:      c.Keys.SecretKey,
		JWTSecret:      c.Keys.JWTSecret,
	}
}
