package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/supabase/keys"
)

func (p *program) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make and change the keys that amber seals its snapshots with",
		Long: `Make and change the keys that amber seals its snapshots and replies with: AMBER_KEYS. (They
are not the API keys that callers have: ` + "`amber status`" + ` shows those.)

AMBER_KEYS is a list, id:base64,id:base64: the first one seals, all of them open. To change the
key of a database while its hosts run:

  1. put a new one behind the old, on all hosts, so that all can read it:  AMBER_KEYS=OLD,NEW
  2. then put it in front, on all hosts:                                   AMBER_KEYS=NEW,OLD
  3. amber keys reseal
  4. drop the old one, on all hosts:                                       AMBER_KEYS=NEW`,
		Example: example(`
			amber keys new
			amber keys list
			amber keys reseal`),
		Args: cobra.ArbitraryArgs,
		RunE: unknownCommand,
	}
	cmd.AddCommand(p.keysNewCommand(), p.keysListCommand(), p.keysResealCommand())
	return cmd
}

func (p *program) keysNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new [ID]",
		Short: "Print a fresh key, for AMBER_KEYS",
		Long: `Print a fresh random key as an entry of AMBER_KEYS: id:base64. The id tells keys apart, in the
database too; without ID it is the day and four random digits.`,
		Example: example(`
			amber keys new
			amber keys new spring-2027
			export AMBER_KEYS=$AMBER_KEYS,$(amber keys new)`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(cmd, "keys new takes one id, not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id := keys.FreshID(time.Now())
			if len(args) == 1 {
				id = args[0]
			}
			entry, err := keys.NewKey(id)
			if err != nil {
				return usagef(cmd, "%w", err)
			}
			if p.output == outputJSON {
				return p.printJSON(map[string]string{"id": id, "entry": entry})
			}
			return p.print(entry + "\n")
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}

// keySettings are what it takes to open what a host has sealed.
var keySettings = append([]string{"amber-keys"}, databaseSettings...)

func (p *program) keysListCommand() *cobra.Command {
	var given *settings
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the keys of a database, and what is sealed with each",
		Long: `Show the keys that are configured and those that the database is sealed with. Keys themselves
are never shown. One that nothing is sealed with can be dropped from AMBER_KEYS; one that is
missing there must be put back, or the runs that it sealed cannot go on. Replies and snapshots
of runs that have ended are counted too: ` + "`amber keys reseal`" + ` seals them anew as it does others.

Exit status: 0 all keys are there, 1 one is missing or the database cannot be read, 2 wrong usage.`,
		Example: example(`
			amber keys list
			amber keys list -o json`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := given.ofAny(p, cmd)
			if err != nil {
				return err
			}
			uses, err := host.Keys(cmd.Context(), config)
			if err != nil {
				return fmt.Errorf("list keys: %w", err)
			}
			return p.showKeys(uses)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	given = addSettings(cmd, []host.Mode{host.Serve, host.Dev}, keySettings...)
	given.addMode(cmd)
	return cmd
}

// ofAny loads the configuration for a command that is about any host's.
func (s *settings) ofAny(p *program, cmd *cobra.Command) (host.Config, error) {
	sources, err := s.sourcesOfAny(p, cmd)
	if err != nil {
		return host.Config{}, err
	}
	return s.loadExisting(p, cmd, sources)
}

// keyUse is a key in JSON.
type keyUse struct {
	ID        string `json:"id"`
	Writes    bool   `json:"writes"`
	Known     bool   `json:"known"`
	Replies   int64  `json:"replies"`
	Snapshots int64  `json:"snapshots"`
	Waiting   int64  `json:"waiting_runs"`
}

func (p *program) showKeys(uses []host.KeyUse) error {
	list, missing := []keyUse{}, 0
	t := table{head: []string{"KEY", "REPLIES", "SNAPSHOTS", "WAITING RUNS", "USE"}}
	for _, u := range uses {
		list = append(list, keyUse(u))
		if !u.Known {
			missing++
		}
		s, use := keyState(u)
		t.add(words(printable(u.ID)), number(u.Replies), number(u.Snapshots), number(u.Waiting), cell{use, s})
	}
	var err error
	if p.output == outputJSON {
		err = p.printJSON(map[string][]keyUse{"keys": list})
	} else {
		err = p.printTable(t)
	}
	if err == nil && missing > 0 {
		err = fmt.Errorf("%d of the keys that the database is sealed with are not in AMBER_KEYS: put them back, behind the first", missing)
	}
	return err
}

func number(n int64) cell { return words(strconv.FormatInt(n, 10)) }

func keyState(u host.KeyUse) (style, string) {
	switch {
	case !u.Known:
		return red, "missing: not in AMBER_KEYS"
	case u.Writes:
		return green, "seals and opens"
	case u.Replies == 0 && u.Snapshots == 0:
		return dim, "opens, and is not needed any more"
	}
	return plain, "opens"
}

func (p *program) keysResealCommand() *cobra.Command {
	var given *settings
	cmd := &cobra.Command{
		Use:   "reseal",
		Short: "Seal with the first key what older ones have sealed",
		Long: `Seal with the first of AMBER_KEYS what others have sealed. Hosts may run meanwhile, but each of
them must have the first key already. Afterwards the others can be dropped. It may be stopped
at any time, and started again.`,
		Example: example(`
			AMBER_KEYS=NEW,OLD amber keys reseal`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := given.ofAny(p, cmd)
			if err != nil {
				return err
			}
			done, err := host.Reseal(cmd.Context(), config, p.progress())
			if err != nil {
				return fmt.Errorf("reseal, after %d rows: %w", done, err)
			}
			if p.output == outputJSON {
				return p.printJSON(map[string]int64{"resealed": done})
			}
			if done == 0 {
				return p.print("nothing to do: the first key has sealed everything\n")
			}
			return p.print(fmt.Sprintf("resealed %d rows; `%s keys list` says which keys can be dropped\n", done, invocation()))
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	given = addSettings(cmd, []host.Mode{host.Serve, host.Dev}, keySettings...)
	given.addMode(cmd)
	return cmd
}

// progress tells people how far it is: once a second, in one place, and a
// file nothing at all.
func (p *program) progress() func(rows int64) {
	_, terminal := terminalOf(p.stderr, p.getenv)
	if !terminal || p.output == outputJSON {
		return func(int64) {}
	}
	var last time.Time
	return func(rows int64) {
		if now := time.Now(); now.Sub(last) > time.Second {
			last = now
			fmt.Fprintf(p.stderr, "\r%d rows", rows)
		}
	}
}
