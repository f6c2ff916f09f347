package local

import (
	"slices"
	"testing"
)

func TestPlatform(t *testing.T) {
	t.Parallel()
	const alpine, musl, glibc = "/etc/alpine-release", "/lib/ld-musl-*.so.1", "/lib/ld-linux*.so.*"
	for _, test := range []struct {
		goos, goarch string
		files        []string
		want         platform // "" is refused
	}{
		{"linux", "amd64", nil, "linux-amd64"},
		{"linux", "386", nil, "linux-i386"},
		{"linux", "arm64", []string{glibc}, "linux-arm64v8"},
		{"linux", "arm", nil, "linux-arm32v7"},
		{"linux", "ppc64le", nil, "linux-ppc64le"},
		{"linux", "amd64", []string{musl}, "linux-amd64-alpine"},
		{"linux", "amd64", []string{musl, glibc}, "linux-amd64"}, // musl for a few programs
		{"linux", "arm64", []string{alpine, musl, glibc}, "linux-arm64v8-alpine"},
		{"darwin", "arm64", nil, "darwin-arm64v8"},
		{"darwin", "amd64", []string{alpine}, "darwin-amd64"},
		{"linux", "riscv64", nil, ""},
		{"freebsd", "amd64", nil, ""},
	} {
		got, err := platformOf(test.goos, test.goarch, func(pattern string) bool { return slices.Contains(test.files, pattern) })
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%s/%s with %v: %q, %v; want %q", test.goos, test.goarch, test.files, got, err, test.want)
		}
	}
}
