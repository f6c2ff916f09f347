// Package host is the building: it joins the database, the engine, the stack
// and the edge functions, and runs them until it is told to stop.
//
//	config, err := host.Load(host.Sources{Mode: host.Dev, Getenv: os.Getenv})
//	...
//	config.Ready = func(info host.Info) { fmt.Println(info.URL) }
//	err = host.New(config).Run(ctx)
//
// Nothing outside this package reads the environment, and every goroutine that
// outlives a call is started here.
package host
