package local

import "time"

// Bare makes a server's machine one without Postgres.
func Bare(cfg Config) Config {
	cfg.bare = true
	return cfg
}

// Impatient is how long programs called postgres may take to say their version.
func Impatient(cfg Config, patience time.Duration) Config {
	cfg.patience = patience
	return cfg
}

// ReleaseOf is what is fetched for a major version.
func ReleaseOf(major int) string { return string(releases[major]) }

// ArtifactHere is the path of its archive in a repository.
func ArtifactHere(major int) (string, error) {
	p, err := here()
	return artifact(p, releases[major]), err
}
