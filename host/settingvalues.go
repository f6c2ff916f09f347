package host

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/amberhost/amber/stack"
)

// This file reads the texts of settings: one function for each kind of value,
// each with an error that says what is wanted.

func text(field func(*Config) *string) func(*Config, given) error {
	return func(c *Config, g given) error {
		*field(c) = g.text
		return nil
	}
}

// textFrom takes a text, and where it is from for messages of later.
func textFrom(fields func(*Config) (value, via *string)) func(*Config, given) error {
	return func(c *Config, g given) error {
		value, via := fields(c)
		*value, *via = g.text, g.where()
		return nil
	}
}

func port(field func(*Config) *int) func(*Config, given) error {
	return func(c *Config, g given) error {
		n, err := strconv.ParseUint(g.text, 10, 16)
		if err != nil {
			return g.errorf("%q is not a port: want a number from 0 to 65535", g.text)
		}
		*field(c) = int(n)
		return nil
	}
}

func count(field func(*Config) *int, least, most int) func(*Config, given) error {
	return func(c *Config, g given) error {
		n, err := strconv.Atoi(g.text)
		if err != nil || n < least || n > most {
			return g.errorf("%q: want a number from %d to %d", g.text, least, most)
		}
		*field(c) = n
		return nil
	}
}

// truth takes true and false, and what people write for them.
func truth(field func(*Config) *bool) func(*Config, given) error {
	return func(c *Config, g given) error {
		switch strings.ToLower(g.text) {
		case "true", "yes", "on", "1":
			*field(c) = true
		case "false", "no", "off", "0":
			*field(c) = false
		default:
			return g.errorf("%q: want true or false", g.text)
		}
		return nil
	}
}

// duration takes 25s, 1m30s, 500ms; a bare number has no unit, and is refused.
func duration(field func(*Config) *time.Duration, least time.Duration) func(*Config, given) error {
	return func(c *Config, g given) error {
		d, err := time.ParseDuration(g.text)
		if err != nil || d < 0 {
			return g.errorf("%q is not a duration: want something like 25s, 1m30s or 500ms", g.text)
		}
		if d < least {
			return g.errorf("%q: want at least %v", g.text, least)
		}
		*field(c) = d
		return nil
	}
}

// takeRetention takes for ever as less than 0.
func takeRetention(c *Config, g given) error {
	d, err := stack.ParseRetention(strings.TrimSpace(g.text))
	if err != nil {
		return g.errorf("%w", err)
	}
	c.Retention = cmp.Or(d, -1)
	return nil
}

var sizeText = regexp.MustCompile(`(?i)^([0-9]+)\s*([kmg]?)(i?b)?$`)

// size takes bytes, or KB, MB, GB and their binary spellings, all of which count
// in steps of 1024, as they do for the Supabase CLI.
func size(field func(*Config) *int64) func(*Config, given) error {
	return func(c *Config, g given) error {
		m := sizeText.FindStringSubmatch(strings.TrimSpace(g.text))
		if m == nil {
			return g.errorf("%q is not a size: want something like 500KB, 16MiB or a number of bytes", g.text)
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		shift := map[string]int{"": 0, "k": 10, "m": 20, "g": 30}[strings.ToLower(m[2])]
		if err != nil || n < 1 || n > 1<<40>>shift {
			return g.errorf("%q: want a size from 1 byte to 1024GB", g.text)
		}
		*field(c) = n << shift
		return nil
	}
}

func takeListen(c *Config, g given) error {
	if net.ParseIP(g.text) == nil && !hostName.MatchString(g.text) {
		return g.errorf("%q is not an address: want something like 127.0.0.1, 0.0.0.0 or ::; the port is a setting of its own, port", g.text)
	}
	c.Listen = g.text
	return nil
}

func takeMetricsListen(c *Config, g given) error {
	address, port, err := net.SplitHostPort(g.text)
	_, wrong := strconv.ParseUint(port, 10, 16)
	if err != nil || wrong != nil || address != "" && net.ParseIP(address) == nil && !hostName.MatchString(address) {
		return g.errorf("%q is not an address with a port: want something like 127.0.0.1:9464, or :9464 for all of this machine's", g.text)
	}
	c.MetricsListen = g.text
	return nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

func takeURL(c *Config, g given) error {
	u, err := url.Parse(g.text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return g.errorf("%q is not a URL of a host: want something like https://amber.example.com", g.text)
	}
	c.URL = strings.TrimRight(g.text, "/")
	return nil
}

func takePooler(c *Config, g given) error {
	switch p := Pooler(g.text); p {
	case PoolerAuto, PoolerDirect, PoolerSession, PoolerTransaction:
		c.Pooler = p
		return nil
	}
	return g.errorf("%q: want auto, direct, session or transaction", g.text)
}

func takeDurability(c *Config, g given) error {
	if g.text != "strict" && g.text != "batched" {
		return g.errorf("%q: want strict or batched", g.text)
	}
	c.Strict = g.text == "strict"
	return nil
}

func takeMigrate(c *Config, g given) error {
	if g.text != "auto" && g.text != "check" {
		return g.errorf("%q: want auto or check", g.text)
	}
	c.CheckOnly = g.text == "check"
	return nil
}

func takeLogLevel(c *Config, g given) error {
	switch strings.ToLower(g.text) {
	case "debug", "info", "warn", "error":
		return c.LogLevel.UnmarshalText([]byte(g.text))
	}
	return g.errorf("%q: want debug, info, warn or error", g.text)
}

func takeLogFormat(c *Config, g given) error {
	if g.text != "text" && g.text != "json" {
		return g.errorf("%q: want text or json", g.text)
	}
	c.LogFormat = g.text
	return nil
}

// takeDatabase checks the URL. A developer's host takes one of another machine
// from the command line alone: see [ofThisMachine].
func takeDatabase(c *Config, g given) error {
	if g.text == "" {
		return nil // --database-url= takes back what the environment says
	}
	servers, err := databaseServers(g.text)
	if err != nil {
		return g.errorf("%w", err)
	}
	if c.Mode == Dev && !g.flag {
		if err := ofThisMachine(g.source, servers); err != nil {
			return err
		}
	}
	c.DatabaseURL, c.DatabaseVia = g.text, g.source
	return nil
}

// showDatabase leaves a URL's host readable and its passwords not; of a text that
// is refused it may not be known which is which.
func showDatabase(text string) string {
	if _, _, err := parseDatabase(text); err != nil {
		return hidden
	}
	if !strings.Contains(text, "://") {
		return dsnSecret.ReplaceAllString(text, "${1}"+hidden)
	}
	u, err := url.Parse(text)
	if err != nil {
		return hidden
	}
	query := urlSecret.ReplaceAllString(u.RawQuery, "${1}"+hidden)
	user := ""
	if u.User != nil {
		user = url.User(u.User.Username()).String()
		if _, ok := u.User.Password(); ok {
			user += ":" + hidden
		}
		user += "@"
	}
	if query != "" {
		query = "?" + query
	}
	return fmt.Sprintf("%s://%s%s%s%s", u.Scheme, user, u.Host, u.EscapedPath(), query)
}

var (
	dsnSecret = regexp.MustCompile(`(?i)(password\s*=\s*)('(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)*)`)
	urlSecret = regexp.MustCompile(`(?i)(password=)[^&]*`)
)
