package host

// Mode is what a host is started for.
type Mode string

// The modes.
const (
	Dev   Mode = "dev"   // one developer's machine: open, on loopback, with an embedded Postgres unless told otherwise
	Serve Mode = "serve" // a database of its own, closed to those without a key
)

// Setting is one line of the table of settings: everything that a host can be told.
type Setting struct {
	Name    string   // "database-url"; also the flag, --database-url
	Env     []string // variables that give it, the first that is set counts
	TOML    string   // "api.port": where supabase/config.toml has it; "" if it has not
	Default string   // as text for people
	Help    string   // a sentence's part, without a full stop
	Secret  bool     // never shown
	Modes   []Mode   // that know it
}

// Sources are where settings come from, in falling precedence: flags, then the
// environment, then supabase/config.toml in Workdir.
type Sources struct {
	Mode    Mode
	Flags   map[string]string // by Setting.Name; only those that were given
	Getenv  func(string) string
	Workdir string // "" is the current directory, and then config.toml may be missing
}

// Value is a setting as it is in force.
type Value struct {
	Setting
	Text   string // "" for an unset one; "(hidden)" for a secret that is set
	Source string // "--port", "AMBER_PORT", "supabase/config.toml:14", "default"
}

// Settings returns the table of settings of a mode, in the order in which people read them.
func Settings(mode Mode) []Setting { panic("not built yet") }

// Load reads the configuration. An error names the source of what is wrong, with its line if it is a file.
func Load(s Sources) (Config, error) { panic("not built yet") }

// Explain returns every setting of the mode as Load would take it. The error is Load's.
func Explain(s Sources) ([]Value, error) { panic("not built yet") }
