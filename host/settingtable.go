package host

import (
	"os"
	"strconv"
	"time"

	"github.com/amberhost/amber/supabase/local"
)

// setting is a [Setting] and what is done with it.
type setting struct {
	Setting
	value string                     // taken where no source says another; "" takes none
	take  func(*Config, given) error // puts it into the configuration
	show  func(text string) string   // of a secret: what of it people may see; nil means nothing
}

// table is every setting that there is. Where Modes is nil all modes know it,
// where TOML is "" it is below [amber] in config.toml, under its own name.
func table(mode Mode) []setting {
	dev, serve := []Mode{Dev}, []Mode{Serve}
	drain := "25s"
	keys := ""
	if mode == Dev {
		drain = "5s"
		keys = "that of every local Supabase project"
	}
	return append([]setting{
		{Setting: Setting{Name: "workdir", Env: []string{"AMBER_WORKDIR", "SUPABASE_WORKDIR"}, Default: "the current directory",
			Help: "directory of the project: the one that has supabase/config.toml"},
			take: func(*Config, given) error { return nil }},

		// Where it is reached.
		{Setting: Setting{Name: "listen", Env: []string{"AMBER_LISTEN"}, Modes: serve,
			Help: "address to serve HTTP on; 0.0.0.0 and :: are all of this machine's"},
			value: "127.0.0.1", take: takeListen},
		{Setting: Setting{Name: "port", Env: []string{"AMBER_PORT"}, TOML: "api.port",
			Help: "where to serve HTTP; 0 takes a free port"},
			value: strconv.Itoa(DefaultPort), take: port(func(c *Config) *int { return &c.Port })},
		{Setting: Setting{Name: "url", Env: []string{"AMBER_URL"}, TOML: "api.external_url", Modes: serve, Default: "from listen and port",
			Help: "the host's own URL, as its clients know it"},
			take: takeURL},
		{Setting: Setting{Name: "tasks", Env: []string{"AMBER_TASKS", "TASKS_DIRECTORY"}, Default: map[Mode]string{Dev: "the built-in examples"}[mode],
			Help: "directory of tasks to publish, at the start and whenever a file changes"},
			take: textFrom(func(c *Config) (value, via *string) { return &c.TasksDir, &c.TasksVia })},

		// The database.
		{Setting: Setting{Name: "database-url", Env: []string{"AMBER_DATABASE_URL", "DATABASE_URL", "SUPABASE_DB_URL", "EXT_SUPABASE_DB_URL"},
			Default: map[Mode]string{Dev: "an embedded Postgres"}[mode], Help: "the Postgres to use, which is migrated"},
			take: takeDatabase, show: showDatabase},
		{Setting: Setting{Name: "pooler", Env: []string{"AMBER_POOLER"},
			Help: "what is between here and the database: auto, direct, session or transaction"},
			value: string(PoolerAuto), take: takePooler},
		{Setting: Setting{Name: "pool-size", Env: []string{"AMBER_POOL_SIZE"}, Default: strconv.Itoa(minConns) + ", or pool_max_conns of the URL",
			Help: "how many connections to the database there may be"},
			take: count(func(c *Config) *int { return &c.PoolSize }, 2, 10_000)},
		{Setting: Setting{Name: "migrate", Env: []string{"AMBER_MIGRATE"}, Modes: serve,
			Help: "auto brings the database's schema up to date at the start, check refuses one that is not"},
			value: "auto", take: takeMigrate},
		{Setting: Setting{Name: "database-wait", Env: []string{"AMBER_DATABASE_WAIT"}, Modes: serve,
			Help: "how long to wait at the start for a database that is away"},
			value: "1m", take: duration(func(c *Config) *time.Duration { return &c.DatabaseWait }, 0)},
		{Setting: Setting{Name: "db-port", Env: []string{"AMBER_DB_PORT"}, TOML: "db.port", Modes: dev,
			Help: "where the embedded Postgres listens"},
			value: strconv.Itoa(local.DefaultPort), take: port(func(c *Config) *int { return &c.DBPort })},
		{Setting: Setting{Name: "postgres-bin", Env: []string{"AMBER_POSTGRES_BIN"}, Modes: dev, Default: "the usual places",
			Help: "directory of the embedded Postgres's programs: postgres, initdb"},
			take: textFrom(func(c *Config) (value, via *string) { return &c.PostgresBin, &c.PostgresBinVia })},
		{Setting: Setting{Name: "postgres-repository", Env: []string{"AMBER_POSTGRES_REPOSITORY"}, Modes: dev, Default: "Maven Central",
			Help: "where Postgres is fetched from if this machine has none"},
			take: text(func(c *Config) *string { return &c.PostgresRepository })},
		{Setting: Setting{Name: "postgres-offline", Env: []string{"AMBER_POSTGRES_OFFLINE"}, Modes: dev,
			Help: "true fetches no Postgres"},
			value: "false", take: truth(func(c *Config) *bool { return &c.PostgresOffline })},
		{Setting: Setting{Name: "data", Env: []string{"AMBER_DATA"}, Modes: dev,
			Help: "directory of the embedded database and of amber's keys"},
			value: defaultData(), take: text(func(c *Config) *string { return &c.DataDir })},
		{Setting: Setting{Name: "cache", Env: []string{"AMBER_CACHE"}, Default: "below " + map[Mode]string{Dev: "data", Serve: "the user's cache directory"}[mode],
			Help: "directory of compiled code, which may be lost"},
			take: text(func(c *Config) *string { return &c.CacheDir })},

		// Who may call.
		{Setting: Setting{Name: "jwt-secret", Env: []string{"AMBER_JWT_SECRET", "SUPABASE_JWT_SECRET", "EXT_SUPABASE_JWT_SECRET"},
			TOML: "auth.jwt_secret", Default: keys, Secret: true, Help: "what the project signs its users' tokens with"},
			take: takeJWTSecret},
		{Setting: Setting{Name: "anon-key", Env: []string{"AMBER_ANON_KEY", "SUPABASE_ANON_KEY", "EXT_SUPABASE_ANON_KEY"},
			TOML: "auth.anon_key", Default: keys, Help: "the project's anon key"},
			take: takeAnonKey},
		{Setting: Setting{Name: "service-role-key", Env: []string{"AMBER_SERVICE_ROLE_KEY", "SUPABASE_SERVICE_ROLE_KEY", "EXT_SUPABASE_SERVICE_ROLE_KEY"},
			TOML: "auth.service_role_key", Default: keys, Secret: true, Help: "the project's service_role key"},
			take: takeServiceRoleKey},
		{Setting: Setting{Name: "publishable-key", Env: []string{"AMBER_PUBLISHABLE_KEY", "SUPABASE_PUBLISHABLE_KEY", "SUPABASE_PUBLISHABLE_KEYS"},
			TOML: "auth.publishable_key", Default: keys, Help: "the project's publishable keys, one or several: a,b or {\"name\":\"a\"}"},
			take: takePublishable},
		{Setting: Setting{Name: "secret-key", Env: []string{"AMBER_SECRET_KEY", "SUPABASE_SECRET_KEY", "SUPABASE_SECRET_KEYS"},
			TOML: "auth.secret_key", Default: keys, Secret: true, Help: "the project's secret keys, one or several, likewise"},
			take: takeSecret},
		{Setting: Setting{Name: "jwks", Env: []string{"AMBER_JWKS", "SUPABASE_JWKS", "EXT_SUPABASE_JWKS"}, Secret: true,
			Default: map[Mode]string{Dev: keys, Serve: "from signing-keys-path or project-url"}[mode],
			Help:    "the public keys of users' tokens that are signed with ES256 or RS256, {\"keys\":[...]}; or @FILE, which has that"},
			take: takeJWKS, show: showJWKS},
		{Setting: Setting{Name: "signing-keys-path", Env: []string{"AMBER_SIGNING_KEYS_PATH"}, TOML: "auth.signing_keys_path",
			Help: "file with the keys that a local project signs with, for their public parts"},
			take: takeSigningKeys},
		{Setting: Setting{Name: "project-url", Env: []string{"AMBER_PROJECT_URL", "SUPABASE_URL", "EXT_SUPABASE_URL"},
			Help: "the project's URL, from where its public keys are fetched if none are given; the host's own has none"},
			take: takeProjectURL},
		{Setting: Setting{Name: "amber-keys", Env: []string{"AMBER_KEYS"}, Secret: true,
			Default: map[Mode]string{Dev: "the file amber-keys in data, made if need be"}[mode],
			Help:    "what amber seals snapshots with, id:base64,...; or @FILE, which has that"},
			take: takeAmberKeys, show: showAmberKeys},

		// How it works.
		{Setting: Setting{Name: "host-name", Env: []string{"AMBER_HOST_NAME"}, Default: "this machine's name and the process id",
			Help: "what this host is called among those that share the database"},
			take: text(func(c *Config) *string { return &c.HostName })},
		{Setting: Setting{Name: "max-bodies", Env: []string{"AMBER_MAX_BODIES"}, Default: "1000",
			Help: "how many runs this host works for at once"},
			take: count(func(c *Config) *int { return &c.MaxBodies }, 1, 1_000_000)},
		{Setting: Setting{Name: "max-queued", Env: []string{"AMBER_MAX_QUEUED"}, Default: "10000",
			Help: "how many runs may wait for a host; starting another is answered with 429"},
			take: count(func(c *Config) *int { return &c.MaxQueued }, 1, 1_000_000)},
		{Setting: Setting{Name: "grace", Env: []string{"AMBER_GRACE"},
			Help: "how long a run that was cancelled, or has had its time, may take to tidy up"},
			value: "10s", take: duration(func(c *Config) *time.Duration { return &c.Grace }, time.Millisecond)},
		{Setting: Setting{Name: "durability", Env: []string{"AMBER_DURABILITY"},
			Help: "strict commits what a call gave before its caller sees it; batched commits it with what the caller does next"},
			value: "batched", take: takeDurability},
		{Setting: Setting{Name: "retention", Env: []string{"AMBER_RETENTION"},
			Help: "how long runs are kept when they have ended, unless their task says; off keeps them for ever"},
			value: "168h", take: takeRetention},
		{Setting: Setting{Name: "memory", Env: []string{"AMBER_MEMORY"},
			Help: "how much memory tasks that compute may take together, more of them wait to begin; a quarter as much is for what goes to and from them"},
			value: "1GiB", take: size(func(c *Config) *int64 { return &c.Memory })},
		{Setting: Setting{Name: "body-limit", Env: []string{"AMBER_BODY_LIMIT"},
			Help: "how large the body of a request may be"},
			value: "16MiB", take: size(func(c *Config) *int64 { return &c.BodyLimit })},
		{Setting: Setting{Name: "drain", Env: []string{"AMBER_DRAIN"},
			Help: "how long requests, runs and calls may take to come to rest when the host is told to stop"},
			value: drain, take: duration(func(c *Config) *time.Duration { return &c.Drain }, time.Second)},
		{Setting: Setting{Name: "drain-notice", Env: []string{"AMBER_DRAIN_NOTICE"},
			Help: "how long before that /ready says so while all is served as before: a little more than the interval at which your load balancer asks"},
			value: "0s", take: duration(func(c *Config) *time.Duration { return &c.DrainNotice }, 0)},
		{Setting: Setting{Name: "metrics-listen", Env: []string{"AMBER_METRICS_LISTEN"},
			Help: "address and port for /metrics alone, such as 127.0.0.1:9464; whoever reaches it needs no key"},
			take: takeMetricsListen},
		{Setting: Setting{Name: "log-level", Env: []string{"AMBER_LOG_LEVEL"},
			Help: "what is worth a line: debug, info, warn or error"},
			value: "info", take: takeLogLevel},
		{Setting: Setting{Name: "log-format", Env: []string{"AMBER_LOG_FORMAT"}, Default: map[Mode]string{Serve: "text on a terminal, else json"}[mode],
			Help: "text or json"},
			value: "text", take: takeLogFormat},
	}, limitTable()...)
}

// defaultData is "" where there is no place for data; see [Config.complete].
func defaultData() string {
	dir, err := local.DefaultDir(os.Geteuid())
	if err != nil {
		return ""
	}
	return dir
}
