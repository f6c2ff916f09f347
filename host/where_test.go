package host_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/amberhost/amber/host"
)

// TestStrayAt: where a password ends cannot be told if what is special in it is
// not encoded. Such texts are refused at once, with the advice and without the text.
func TestStrayAt(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"postgres://app:abc@HUNTER2@127.0.0.1:5432/x",
		"postgres://app:abc@HUNTER2:HUNTER2@127.0.0.1:5432/x",
		"postgres://app:abc@HUNTER2/HUNTER2@127.0.0.1:5432/x",
		"postgres://app:abc@HUNTER2,HUNTER2@127.0.0.1:5432/x",
		"postgres://app:abc@HUNTER2@127.0.0.1:5432/x?pgbouncer=true",
		"postgres://app:HUNTER2/abc@127.0.0.1:5432/x",
		"postgres://app:12/HUNTER2@127.0.0.1:5432/x",
		"postgres://app:HUNTER2/abc?HUNTER2@127.0.0.1:5432/x",
		"postgres://app@example.com:HUNTER2@127.0.0.1:5432/x",
		"host=HUNTER2@127.0.0.1 dbname=x",
		"postgres:///x?host=HUNTER2@127.0.0.1",
	} {
		for _, mode := range []host.Mode{host.Dev, host.Serve} {
			for source, sources := range map[string]host.Sources{
				"DATABASE_URL":   {Mode: mode, Getenv: variables("DATABASE_URL", text)},
				"--database-url": {Mode: mode, Flags: map[string]string{"database-url": text}},
			} {
				values, err := host.Explain(sources)
				if err == nil || !strings.HasPrefix(err.Error(), source+": ") || !strings.Contains(err.Error(), "write @ as %40") {
					t.Errorf("%s, %s: %v", mode, text, err)
				}
				if all := fmt.Sprint(values, err); strings.Contains(all, "HUNTER2") {
					t.Errorf("%s, %s is shown: %s", mode, text, all)
				}
			}
		}
		err := host.New(host.Config{DatabaseURL: text, DataDir: t.TempDir(), CacheDir: cacheDir}).Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "write @ as %40") || strings.Contains(err.Error(), "HUNTER2") {
			t.Errorf("Run with %s: %v", text, err)
		}
	}
	for _, text := range []string{ // what is like them and right
		"postgres://app:abc%40def@127.0.0.1:5432/x",
		"postgres://app:abc?d#e:f@127.0.0.1:5432/x",
		"postgres://app:abc@127.0.0.1:5432/a%40b",
		"postgres://127.0.0.1:5432/x?user=a@b",
		"host=127.0.0.1 password=a@b dbname=x",
	} {
		if _, err := host.Load(host.Sources{Mode: host.Dev, Getenv: variables("DATABASE_URL", text)}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestUnreadDatabase: of what is no URL and cannot be read nothing is shown that
// may be a password.
func TestUnreadDatabase(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"app:abc@HUNTER2@127.0.0.1/x", "host=127.0.0.1 password = HUNTER2 port=x"} {
		values, err := host.Explain(host.Sources{Mode: host.Serve, Getenv: variables("DATABASE_URL", text)})
		if err == nil || !strings.Contains(err.Error(), "want something like postgres://") {
			t.Errorf("%s: %v", text, err)
		}
		if all := fmt.Sprint(values, err); strings.Contains(all, "HUNTER2") {
			t.Errorf("%s is shown: %s", text, all)
		}
	}
}
