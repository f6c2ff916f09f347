package local

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ulikunitz/xz"
)

// errCorrupt: an archive is not what it should be, though it is what the
// repository has.
var errCorrupt = errors.New("the archive is corrupt")

// unpack makes the directory tree of the one .txz that a jar has in it.
func unpack(ctx context.Context, jar, tree string) error {
	z, err := zip.OpenReader(jar)
	if err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	defer z.Close()
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, ".txz") {
			continue
		}
		txz, err := f.Open()
		if err != nil {
			return fmt.Errorf("%w: %w", errCorrupt, err)
		}
		defer txz.Close()
		return unpackTxz(ctx, txz, tree)
	}
	return fmt.Errorf("%w: it has no .txz in it", errCorrupt)
}

// unpackTxz reads to the very end, where the checksums are.
func unpackTxz(ctx context.Context, txz io.Reader, dir string) error {
	unzipped, err := xz.NewReader(txz)
	if err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // nothing gets out of it, be it by .. or by a link
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(unzipped)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errCorrupt, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := unpackEntry(root, h, t); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, unzipped); err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return nil
}

// unpackEntry makes what everybody may read and only its owner may change,
// whatever the umask is.
func unpackEntry(root *os.Root, h *tar.Header, content io.Reader) error {
	name := filepath.Clean(h.Name)
	if name == "." {
		return nil
	}
	if !filepath.IsLocal(name) || h.Typeflag == tar.TypeLink && !filepath.IsLocal(h.Linkname) {
		return fmt.Errorf("%w: it has %q in it", errCorrupt, h.Name)
	}
	if err := mkdirAll(root, filepath.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return mkdirAll(root, name)
	case tar.TypeReg:
		mode := os.FileMode(0o644)
		if h.Mode&0o100 != 0 {
			mode = 0o755
		}
		return unpackFile(root, name, mode, content)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(filepath.Clean(h.Linkname), name)
	}
	return nil // no part of Postgres
}

func mkdirAll(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if info, err := root.Stat(dir); err == nil && info.IsDir() {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := mkdirAll(root, filepath.Dir(dir)); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return root.Chmod(dir, 0o755)
}

func unpackFile(root *os.Root, name string, mode os.FileMode, content io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	source := &counted{Reader: content, more: func() {}}
	_, err = io.Copy(f, source)
	if source.err != nil {
		err = fmt.Errorf("%w: %w", errCorrupt, source.err)
	}
	return errors.Join(err, f.Chmod(mode), f.Close())
}
