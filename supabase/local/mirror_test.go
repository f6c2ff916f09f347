package local_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/amberhost/amber/supabase/local"
	"github.com/ulikunitz/xz"
)

// mirror is a Maven repository on loopback with one release in it.
type mirror struct {
	*httptest.Server
	downloads atomic.Int32 // of the archive
}

// mirrorOf serves an archive as a major version's. A handler may come before it.
func mirrorOf(t *testing.T, major int, jar string, before func(w http.ResponseWriter, r *http.Request) bool) *mirror {
	t.Helper()
	path, err := local.ArtifactHere(major)
	if err != nil {
		t.Fatal(err)
	}
	m := new(mirror)
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isJar := r.URL.Path == "/maven2/"+path
		if isJar {
			m.downloads.Add(1)
		}
		switch {
		case before != nil && before(w, r):
		case isJar:
			http.ServeFile(w, r, jar)
		case r.URL.Path == "/maven2/"+path+".sha256":
			io.WriteString(w, sumOf(t, jar))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) url() string { return m.URL + "/maven2" }

func sumOf(t *testing.T, file string) string {
	f, err := os.Open(file)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Error(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// jarOf makes an archive in the repository's form: a .txz in a zip.
func jarOf(t *testing.T, txz []byte) string {
	t.Helper()
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	for name, content := range map[string][]byte{"META-INF/MANIFEST.MF": []byte("Manifest-Version: 1.0\n"), "postgres-any.txz": txz} {
		if content == nil {
			continue
		}
		f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return fileWith(t, "archive.jar", jar.String())
}

func fileWith(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// scripts is the tar of a Postgres that says its version and cannot do more.
func scripts(t *testing.T, version string) []byte {
	return tarOf(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "./bin/postgres", Typeflag: tar.TypeReg, Mode: 0o700, Linkname: "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"},
		tar.Header{Name: "./bin/initdb", Typeflag: tar.TypeReg, Mode: 0o700, Linkname: "#!/bin/sh\necho 'only a script'\nexit 1\n"},
		tar.Header{Name: "./lib/libpq.so", Typeflag: tar.TypeSymlink, Linkname: "libpq.so.5"},
	)
}

// tarOf makes a tar; the content of a file is in the field Linkname.
func tarOf(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname, h.Size = h.Linkname, "", int64(len(h.Linkname))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func compress(t *testing.T, tar []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 16}.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(tar); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// tarOfTree packs a directory.
func tarOfTree(t *testing.T, dir string, only ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, part := range only {
		err := filepath.WalkDir(filepath.Join(dir, part), func(file string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return addFile(w, dir, file, d)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func addFile(w *tar.Writer, dir, file string, d os.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	if d.Type() == os.ModeSymlink {
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name = strings.TrimPrefix(file, dir+"/")
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}

// store makes an .xz file in which nothing is compressed: sixty megabytes of
// programs take a long time otherwise, under the race detector above all.
func store(content []byte) []byte {
	sum := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }
	padded := func(b []byte) []byte { return append(b, make([]byte, (4-len(b)%4)%4)...) }
	const flags = "\x00\x01" // CRC32
	out := append([]byte("\xfd7zXZ\x00"), flags...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE([]byte(flags)))

	// A block: one filter, LZMA2 with a dictionary of 64 KB, no sizes.
	block := sum([]byte{2, 0, 0x21, 1, 8, 0, 0, 0})
	chunk := byte(1) // uncompressed, begins a dictionary; 2 goes on with it
	for rest := content; len(rest) > 0; chunk = 2 {
		n := min(len(rest), 1<<16)
		block = append(block, chunk, byte((n-1)>>8), byte(n-1))
		block = append(block, rest[:n]...)
		rest = rest[n:]
	}
	block = append(block, 0)
	unpadded := uint64(len(block)) + 4
	out = append(out, padded(block)...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(content))

	index := []byte{0, 1}
	index = binary.AppendUvarint(index, unpadded)
	index = sum(padded(binary.AppendUvarint(index, uint64(len(content)))))
	out = append(out, index...)

	footer := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1))
	footer = append(footer, flags...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(footer))
	return append(append(out, footer...), "YZ"...)
}

func tarFile(name, content string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Linkname: content}
}

func tarLink(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
}
