package main

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/supabase/keys"
)

const defaultPort = "54321" // the Supabase CLI's port for its API

// target says which host a command talks to.
type target struct{ url, key string }

// addTo gives cmd the flags --url and --key.
func (t *target) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.url, "url", "", "the host (default $AMBER_URL, $SUPABASE_URL, else amber dev's: http://127.0.0.1:"+defaultPort+")")
	cmd.Flags().StringVar(&t.key, "key", "", "an API key (default $AMBER_KEY, for $SUPABASE_URL $SUPABASE_SERVICE_ROLE_KEY; amber dev on this machine needs none)")
	_ = cmd.RegisterFlagCompletionFunc("url", cobra.NoFileCompletions) // these fail for a flag that is not there
	_ = cmd.RegisterFlagCompletionFunc("key", cobra.NoFileCompletions)
}

// client returns the client of the host that flags and environment name.
func (t *target) client(cmd *cobra.Command, getenv func(string) string) (*client, error) {
	base, err := t.base(getenv)
	if err != nil {
		return nil, usagef(cmd, "%w", err)
	}
	c := newClient(base.String(), "")
	c.local = loopback(base.Hostname())
	if t.url != "" {
		c.again = " --url " + quoted(t.url)
	}
	if c.key = t.key; c.key != "" {
		c.again += " --key YOUR-KEY"
		return c, nil
	}
	variables := t.keyVariables(base, getenv)
	for _, name := range variables {
		if c.key = getenv(name); c.key != "" {
			return c, nil
		}
	}
	if !c.local {
		return nil, usagef(cmd, "%s needs a key: give --key or set %s", base.Host, variables[0])
	}
	c.key = localKey(getenv)
	return c, nil
}

// localKey is the key that a host takes which has the settings that are here.
func localKey(getenv func(string) string) string {
	config, _ := localConfig(getenv) // says nothing if it fails
	return cmp.Or(config.Keys.ServiceRoleKey, config.Keys.SecretKey, keys.Local().ServiceRoleKey)
}

// localConfig is the configuration of amber dev here, or of amber serve if the
// settings are that one's.
func localConfig(getenv func(string) string) (host.Config, error) {
	config, err := host.Load(host.Sources{Mode: host.Dev, Getenv: getenv})
	if err != nil {
		config, err = host.Load(host.Sources{Mode: host.Serve, Getenv: getenv})
	}
	return config, err
}

// keyVariables names the variables that may hold base's key, the likelier
// first. A key goes only where its own URL leads, and to this machine: many
// a shell has the key of a project that --url does not name.
func (t *target) keyVariables(base *url.URL, getenv func(string) string) []string {
	names := []string{"AMBER_KEY", "SUPABASE_SERVICE_ROLE_KEY"}
	if t.url == "" && getenv("AMBER_URL") == "" && getenv("SUPABASE_URL") != "" {
		slices.Reverse(names)
	}
	if loopback(base.Hostname()) {
		return names
	}
	return names[:1]
}

func (t *target) base(getenv func(string) string) (*url.URL, error) {
	text := cmp.Or(t.url, getenv("AMBER_URL"), getenv("SUPABASE_URL"))
	if text == "" {
		port, source := localPort(getenv)
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("%s: %q is not a port: want a number from 1 to 65535", source, port)
		}
		text = "http://127.0.0.1:" + port
	}
	base, err := url.Parse(text)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the address of a host; one looks like http://127.0.0.1:%s", text, defaultPort)
	}
	path := strings.TrimSuffix(strings.TrimRight(base.Path, "/"), "/functions/v1")
	return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path}, nil
}

// localPort is where amber dev serves, and what says so.
func localPort(getenv func(string) string) (port, source string) {
	values, _ := host.Explain(host.Sources{Mode: host.Dev, Getenv: getenv})
	for _, v := range values {
		if v.Name == "port" {
			return v.Text, v.Source
		}
	}
	return cmp.Or(getenv("AMBER_PORT"), defaultPort), "AMBER_PORT" // config.toml cannot be read
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
