package local

import (
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
)

// DefaultRepository has the Postgres programs that amber fetches: a Maven
// repository with the artifacts of zonkyio/embedded-postgres-binaries.
const DefaultRepository = "https://repo1.maven.org/maven2"

// releases are the versions that amber fetches, by major version.
var releases = map[int]release{
	15: "15.18.0",
	16: "16.14.0",
	17: "17.10.0",
	18: "18.4.0",
}

// newMajor is the Postgres of a database yet to be made.
const newMajor = 17

// release is a version as the repository writes it: Postgres', and the number
// of the packaging.
type release string

// version is Postgres' own, "17.10".
func (r release) version() string { return string(r)[:strings.LastIndexByte(string(r), '.')] }

// platform is an operating system and processor as the repository names them.
type platform string

// here is the platform of this process.
func here() (platform, error) { return platformOf(runtime.GOOS, runtime.GOARCH, exists) }

func exists(pattern string) bool {
	found, _ := filepath.Glob(pattern) // the patterns are well-formed
	return len(found) > 0
}

func platformOf(goos, goarch string, exists func(pattern string) bool) (platform, error) {
	names := map[string]string{
		"linux/amd64": "linux-amd64", "linux/386": "linux-i386", "linux/arm64": "linux-arm64v8",
		"linux/arm": "linux-arm32v7", "linux/ppc64le": "linux-ppc64le",
		"darwin/amd64": "darwin-amd64", "darwin/arm64": "darwin-arm64v8",
	}
	name := names[goos+"/"+goarch]
	if name == "" {
		return "", fmt.Errorf("there are no Postgres programs for %s/%s to fetch", goos, goarch)
	}
	// Alpine may have glibc's loader for other programs' sake; it is musl's all the same.
	musl := exists("/etc/alpine-release") ||
		exists("/lib/ld-musl-*.so.1") && !exists("/lib/ld-linux*.so.*") && !exists("/lib64/ld*.so.*")
	if goos == "linux" && musl {
		name += "-alpine"
	}
	return platform(name), nil
}

// repositoryOf parses a repository's URL; "" is the default one.
func repositoryOf(text string) (*url.URL, error) {
	if text == "" {
		text = DefaultRepository
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the repository of Postgres programs (AMBER_POSTGRES_REPOSITORY) must be an http or https URL such as %s", DefaultRepository)
	}
	return u, nil
}

// artifact is the path of a release's archive in Maven's layout.
func artifact(p platform, r release) string {
	name := "embedded-postgres-binaries-" + string(p)
	return fmt.Sprintf("io/zonky/test/postgres/%s/%s/%s-%s.jar", name, r, name, r)
}
