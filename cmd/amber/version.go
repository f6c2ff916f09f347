package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/vm"
)

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print which amber this is",
		Long: `Print which amber this is. The engine is what snapshots are bound to: a host goes on with the
runs of another one if both have the same.`,
		Example: example(`
			amber version
			amber version -o json`),
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			v := versionOf(info)
			if p.output == outputJSON {
				return p.printJSON(v)
			}
			return p.print(v.text())
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}

// version is what amber version answers.
type version struct {
	Version  string `json:"version"` // of the module; "(devel)" for a build of a checkout
	Commit   string `json:"commit"`  // "" if the build does not know it
	Time     string `json:"time"`    // of the commit
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Engine   string `json:"engine"`
}

// versionOf reads what the linker knows; nil is a build that knows nothing.
func versionOf(info *debug.BuildInfo) version {
	v := version{Version: "unknown", Engine: (*vm.Engine)(nil).Identity()}
	if info == nil {
		return v
	}
	v.Go = info.GoVersion
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	about := make(map[string]string)
	for _, s := range info.Settings {
		about[s.Key] = s.Value
	}
	v.Commit, v.Time = about["vcs.revision"], about["vcs.time"]
	v.Modified = about["vcs.modified"] == "true"
	v.Platform = about["GOOS"] + "/" + about["GOARCH"]
	return v
}

func (v version) text() string {
	text := "amber " + v.Version + "\n"
	if v.Commit != "" {
		modified := ""
		if v.Modified {
			modified = ", modified"
		}
		text += fmt.Sprintf("commit %s (%s%s)\n", v.Commit, v.Time, modified)
	}
	return text + fmt.Sprintf("engine %s\n%s %s\n", v.Engine, v.Go, v.Platform)
}
