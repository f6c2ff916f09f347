package main

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/supabase/keys"
)

const defaultPort = "54321" // the Supabase CLI's port for its API

// target says which host a command talks to.
type target struct{ url, key string }

// addTo gives cmd the flags --url and --key.
func (t *target) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.url, "url", "", "the host (default $AMBER_URL, $SUPABASE_URL, else http://127.0.0.1:"+defaultPort+")")
	cmd.Flags().StringVar(&t.key, "key", "", "an API key (default $AMBER_KEY, $SUPABASE_SERVICE_ROLE_KEY; not needed on this machine)")
}

// client returns the client of the host that flags and environment name.
func (t *target) client(cmd *cobra.Command, getenv func(string) string) (*client, error) {
	base, err := t.base(getenv)
	if err != nil {
		return nil, usagef(cmd, "%w", err)
	}
	key := cmp.Or(t.key, getenv("AMBER_KEY"), getenv("SUPABASE_SERVICE_ROLE_KEY"))
	local := key == ""
	if local {
		if !loopback(base.Hostname()) {
			return nil, usagef(cmd, "%s needs a key: give --key or set AMBER_KEY", base.Host)
		}
		key = keys.Local().ServiceRoleKey
	}
	c := newClient(base.String(), key)
	c.local = local
	return c, nil
}

func (t *target) base(getenv func(string) string) (*url.URL, error) {
	text := cmp.Or(t.url, getenv("AMBER_URL"), getenv("SUPABASE_URL"),
		"http://127.0.0.1:"+cmp.Or(getenv("AMBER_PORT"), defaultPort))
	base, err := url.Parse(text)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the address of a host; one looks like http://127.0.0.1:%s", text, defaultPort)
	}
	path := strings.TrimSuffix(strings.TrimRight(base.Path, "/"), "/functions/v1")
	return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
