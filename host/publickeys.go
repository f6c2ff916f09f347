package host

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/amberhost/amber/supabase/keys"
)

// This file reads the settings that say which public keys users' tokens are
// verified with, and makes the keys of them.

// takeJWKS takes a key set, or the name of a file that has it.
func takeJWKS(c *Config, g given) error {
	if g.text == "" {
		return nil
	}
	file, ok := strings.CutPrefix(g.text, "@")
	text := g.text
	if ok {
		var err error
		if text, err = readSmall(file); err != nil {
			return g.errorf("read public keys: %w", err)
		}
	}
	return c.takeKeySet(g, file, ok, text)
}

// takeSigningKeys takes the file with which a local project signs, of which the
// public parts are read. It is for those who were not told the keys by jwks.
func takeSigningKeys(c *Config, g given) error {
	if g.text == "" || c.Keys.Public != nil {
		return nil
	}
	file := g.text
	if !filepath.IsAbs(file) {
		file = filepath.Join(g.dir, file)
	}
	text, err := readSmall(file)
	if err != nil {
		return g.errorf("read signing keys: %w: SUPABASE_JWKS may have their public parts instead", err)
	}
	return c.takeKeySet(g, file, true, text)
}

func (c *Config) takeKeySet(g given, file string, isFile bool, text string) error {
	set, err := keys.ParseKeySet([]byte(text))
	var wrong *keys.KeySetError
	switch {
	case isFile && errors.As(err, &wrong):
		return g.errorf("%s:%d: %w", file, wrong.Line, wrong.Err)
	case err != nil:
		return g.errorf("%w", err)
	}
	c.Keys.Public = set
	return nil
}

// showJWKS shows which keys there are: the text may have secret ones besides.
func showJWKS(text string) string {
	if strings.HasPrefix(text, "@") {
		return text
	}
	set, err := keys.ParseKeySet([]byte(text))
	if err != nil {
		return hidden
	}
	return set.String()
}

func takeProjectURL(c *Config, g given) error {
	if g.text == "" {
		return nil
	}
	u, err := url.Parse(g.text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return g.errorf("is not the URL of a project: want something like https://<ref>.supabase.co")
	}
	c.ProjectURL = strings.TrimRight(g.text, "/")
	return nil
}

// completeProjectURL drops the URL if it is the host's own, as clients are told
// it, and warns of one that anybody on the way can answer for.
func (c *Config) completeProjectURL() {
	u, err := url.Parse(c.ProjectURL)
	if c.ProjectURL == "" || err != nil {
		return
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	here := isLoopback(u.Hostname()) || u.Hostname() == c.listen() || u.Hostname() == "0.0.0.0"
	switch {
	case c.ProjectURL == c.URL, here && port == strconv.Itoa(c.Port):
		c.ProjectURL = ""
	case u.Scheme == "http" && !isLoopback(u.Hostname()) && c.Keys.Public == nil:
		c.Warnings = append(c.Warnings, fmt.Sprintf("the project's public keys are fetched from %s without encryption: "+
			"who can change what comes from there can sign tokens", c.ProjectURL))
	}
}

// projectKeys are the keys that callers have, with the public ones to be
// fetched if none were given.
func (c Config) projectKeys() keys.Set {
	set := c.Keys
	if set.Public == nil && c.ProjectURL != "" {
		set.Public = keys.NewFetchedKeys(c.ProjectURL, keys.FetchOptions{Log: c.Log, RefuseLocal: !isLoopback(c.listen())})
	}
	return set
}
