package local

import "context"

// Running returns the connection string, for the role postgres, of the Postgres
// that runs on a directory, whoever started it and on whichever port; "" if none
// answers there. It starts nothing, and stops nothing. See [Server.URL].
func Running(ctx context.Context, dir string) (url string, err error) {
	l, err := layoutOf(dir)
	if err != nil {
		return "", err
	}
	p, port := findPostmaster(l, account{})
	if p == nil || port == 0 {
		return "", nil
	}
	if ours, _ := p.answers(ctx, port); !ours { // it starts, it ends, or it is another one
		return "", ctx.Err()
	}
	return dsn(port), nil
}
