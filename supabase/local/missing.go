package local

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoBinaries says that this machine has no Postgres that amber can run, and
// that none was fetched.
var ErrNoBinaries = errors.New("no usable Postgres on this machine")

// missingError: no Postgres here can run a data directory of a major version, or,
// for 0, any.
type missingError struct {
	major  int
	others []string // what is here instead
}

func (e *missingError) Error() string { return e.found() + ": " + e.hint() }

func (e *missingError) Unwrap() error { return ErrNoBinaries }

func (e *missingError) found() string {
	others := strings.Join(e.others, ", ")
	switch {
	case e.major == 0 && others == "":
		return ErrNoBinaries.Error() + ": none in PATH, nor where Debian, Red Hat, Alpine, SUSE, Homebrew and Postgres.app put it"
	case e.major == 0:
		return fmt.Sprintf("%v: found %s, amber needs %d or newer", ErrNoBinaries, others, minMajor)
	case others == "":
		others = "none"
	}
	return fmt.Sprintf("it was made by Postgres %d, but this machine has %s", e.major, others)
}

// hint names the three ways out.
func (e *missingError) hint() string {
	if e.major == 0 {
		return "install one (Debian and Ubuntu: apt-get install postgresql; macOS: brew install postgresql@17; or Postgres.app), " +
			"say where its programs are with AMBER_POSTGRES_BIN, or use a database of yours with --database-url (DATABASE_URL)"
	}
	return fmt.Sprintf("install Postgres %d, say where its programs are with AMBER_POSTGRES_BIN, or choose another directory with --data", e.major)
}

// unfetched adds to a missingError why fetching did not help; the hint stays last.
func (e *missingError) unfetched(version string, why error) error {
	return &unfetchedError{e, version, why}
}

type unfetchedError struct {
	*missingError
	version string
	why     error
}

func (e *unfetchedError) Error() string {
	return fmt.Sprintf("%s, and Postgres %s was not fetched: %v; %s", e.found(), e.version, e.why, e.hint())
}

func (e *unfetchedError) Unwrap() []error { return []error{ErrNoBinaries, e.why} }
