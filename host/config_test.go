package host_test

import (
	"strings"
	"testing"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/supabase/keys"
)

func TestConfigFromEnv(t *testing.T) {
	t.Parallel()
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	c, err := host.ConfigFromEnv(env())
	if err != nil || c.Port != 54321 || c.DBPort != 54322 || c.DataDir == "" || !c.Open || c.Keys != keys.Local() {
		t.Errorf("nothing set: %+v, %v", c, err)
	}
	entry, err := keys.NewKey("k1")
	if err != nil {
		t.Fatal(err)
	}
	c, err = host.ConfigFromEnv(env("AMBER_PORT", "1", "AMBER_DB_PORT", "2", "AMBER_DATA", "/d", "AMBER_POSTGRES_BIN", "/b",
		"AMBER_KEYS", entry, "DATABASE_URL", "postgres://127.0.0.1/x"))
	if err != nil || c.Port != 1 || c.DBPort != 2 || c.DataDir != "/d" || c.PostgresBin != "/b" || c.AmberKeys != entry || c.DatabaseURL != "postgres://127.0.0.1/x" {
		t.Errorf("all set: %+v, %v", c, err)
	}
	for name, value := range map[string]string{
		"AMBER_PORT": "80a", "AMBER_DB_PORT": "65536", "AMBER_KEYS": "k1:" + strings.Repeat("c2VjcmV0", 3),
	} {
		_, err := host.ConfigFromEnv(env(name, value))
		if err == nil || !strings.HasPrefix(err.Error(), name+":") {
			t.Errorf("%s=%s: %v", name, value, err)
		}
		if name == "AMBER_KEYS" && strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

// TestForeignDatabase: a DATABASE_URL is taken only if it leads nowhere else.
func TestForeignDatabase(t *testing.T) {
	t.Parallel()
	for url, foreign := range map[string]string{
		"postgres://postgres:secret@127.0.0.1:5432/postgres":           "",
		"postgres://localhost/app?pool_max_conns=4":                    "",
		"postgres://[::1]:5432/app":                                    "",
		"postgres:///app?host=/var/run/postgresql":                     "",
		"host=/var/run/postgresql dbname=app":                          "",
		"postgres://app:secret@db.example.com:6543/app":                "db.example.com",
		"host=10.0.0.7 password=secret":                                "10.0.0.7",
		"postgres://app:secret@localhost,db.example.com/app":           "db.example.com",
		"postgres://app:secret@127.0.0.1/app?host=db.example.com":      "db.example.com",
		"postgres://app:secret@127.0.0.1.example.com/app?sslmode=none": "DATABASE_URL: ",
	} {
		_, err := host.ConfigFromEnv(func(name string) string {
			if name == "DATABASE_URL" {
				return url
			}
			return ""
		})
		switch {
		case foreign == "" && err != nil:
			t.Errorf("%s: %v", url, err)
		case foreign != "" && (err == nil || !strings.Contains(err.Error(), foreign)):
			t.Errorf("%s: %v, want a refusal of %s", url, err, foreign)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("the error shows the password: %v", err)
		}
	}
}
