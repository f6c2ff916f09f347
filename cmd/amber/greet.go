package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/amberhost/amber/host"
)

// greet says where everything is, and what to do next.
func (p *program) greet(info host.Info, config host.Config) {
	if p.output == outputJSON {
		_ = p.printJSON(readyOf(info)) // nobody reads it: no reason to stop serving
		return
	}
	tasks := "the built-in examples"
	if config.TasksDir != "" {
		tasks = config.TasksDir + ", watched for changes"
	}
	database, data := [2]string{"DB URL", info.DatabaseURL}, info.DataDir
	if config.DatabaseURL != "" { // it may have a password that is not for a screen
		via := cmp.Or(config.DatabaseVia, "DATABASE_URL")
		database = [2]string{"database", info.Database + ", from " + via + "; --data and --db-port do not apply to it"}
		data += ", for amber's keys and caches alone"
	}
	writeTable(p.stdout, [][2]string{
		{"API URL", info.URL},
		{"Functions URL", info.FunctionsURL},
		database,
		{"anon key", info.AnonKey},
		{"service_role key", info.ServiceRoleKey},
		{"tasks", tasks},
		{"data", data},
		{"process id", strconv.Itoa(os.Getpid())},
	})
	p.suggest(info, config.TasksDir)
}

// ready is what a host says in JSON when it serves.
type ready struct {
	URL          string `json:"url"`
	FunctionsURL string `json:"functions_url"`
	Database     string `json:"database"`
	Process      int    `json:"process_id"`
}

func readyOf(info host.Info) ready {
	return ready{info.URL, info.FunctionsURL, info.Database, os.Getpid()}
}

// suggest says what to do next.
func (p *program) suggest(info host.Info, dir string) {
	task := showpiece // names of tasks need no quotes anywhere
	if dir != "" {
		if len(info.Tasks) == 0 {
			fmt.Fprintf(p.stdout, "\namber is ready; no task in %s is published yet: see the log above\n\n", dir)
			return
		}
		task = info.Tasks[0]
	}
	url := ""
	if info.URL != "http://127.0.0.1:"+defaultPort {
		url = " --url " + info.URL
	}
	fmt.Fprintf(p.stdout, `
amber is ready. In another terminal:

  %s run %s%s

  curl %s/tasks/execute -H 'Prefer: wait=10' -d '{"taskName":"%s"}'

`, invocation(), task, url, info.FunctionsURL, task)
}

// showpiece is the built-in example to try first.
const showpiece = "order-fulfilment"

func writeTable(w io.Writer, rows [][2]string) {
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		fmt.Fprintf(w, "  %s%s  %s\n", strings.Repeat(" ", width-len(r[0])), r[0], r[1])
	}
}
