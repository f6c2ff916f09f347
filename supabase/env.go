package supabase

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/joho/godotenv"
)

// Env is what a project's .env files say, by name: what env(NAME) in config.toml
// stands for where the environment has no NAME. The Path of a value is its NAME.
type Env map[string]Value

// maxEnv is how many bytes a .env file may have.
const maxEnv = 256 << 10

// ReadEnv reads the .env files that the Supabase CLI reads for the project in
// dir, in falling precedence: .env.<environment>.local, .env.local,
// .env.<environment> and .env, first those in dir/supabase, then those in dir.
// The environment is what SUPABASE_ENV says, "" for development; that called
// test has no .env.local. Files may be missing. An error names file and line,
// and shows nothing else of the file.
func ReadEnv(dir, environment string) (Env, error) {
	all := Env{}
	for _, file := range envFiles(dir, environment) {
		text, err := readEnv(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read environment file: %w", err)
		}
		one, err := ParseEnv(file, text)
		if err != nil {
			return nil, err
		}
		for name, v := range one {
			if _, said := all[name]; !said {
				all[name] = v
			}
		}
	}
	return all, nil
}

func envFiles(dir, environment string) []string {
	if environment == "" {
		environment = "development"
	}
	names := []string{".env." + environment + ".local", ".env.local", ".env." + environment, ".env"}
	if environment == "test" {
		names = append(names[:1], names[2:]...)
	}
	var files []string
	for _, dir := range []string{filepath.Join(dir, "supabase"), dir} {
		for _, name := range names {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files
}

func readEnv(file string) ([]byte, error) {
	if err := wantFile(file); err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEnv+1))
	if len(text) > maxEnv {
		return nil, fmt.Errorf("%s has more than %d bytes", file, maxEnv)
	}
	return text, err
}

// wantFile refuses what is there and is no regular file: to open a pipe waits
// until somebody writes to it, and nothing can end that.
func wantFile(file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file: put one in its place, or remove it", file)
	}
	return nil
}

// ParseEnv is [ReadEnv] for the text of one file; file is its name in messages.
//
// The CLI's own parser reads it, so that both take it for the same.
func ParseEnv(file string, text []byte) (Env, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	places, err := placesOf(file, text)
	if err != nil {
		return nil, err
	}
	texts, err := godotenv.UnmarshalBytes(text)
	if err != nil {
		return nil, envError(file, 1+bytes.Count(text, []byte("\n")), false)
	}
	env := make(Env, len(texts))
	for name, text := range texts {
		env[name] = Value{Path: name, Text: text, File: file, Line: places[name]}
	}
	return env, nil
}

// placesOf finds the lines of names, which the parser does not know, by having it
// read piece by piece. A piece is a line, or, if a value in quotes goes on, all up
// to its last quote; what follows that in its line is a piece again. So nothing is
// read more than twice, whatever stands there.
func placesOf(file string, text []byte) (map[string]int, error) {
	places := map[string]int{}
	line, quoted := 1, 0 // quoted is where the value began that has ended in this line, 0 if none has
	for len(text) > 0 {
		length := bytes.IndexByte(text, '\n') + 1
		if length == 0 {
			length = len(text)
		}
		said, err := parsePiece(text[:length])
		if quote, open := openQuote(err); open {
			if length = closing(text, length, quote); length == 0 {
				return nil, envError(file, line, true)
			}
			said, err = parsePiece(text[:length])
		}
		if _, nameless := said[""]; err != nil || nameless {
			return nil, envError(file, cmp.Or(quoted, line), quoted != 0)
		}
		for name := range said {
			places[name] = line
		}
		lines := bytes.Count(text[:length], []byte("\n"))
		quoted = 0
		if lines > 0 && text[length-1] != '\n' {
			quoted = line
		}
		line += lines
		text = text[length:]
	}
	return places, nil
}

// parsePiece adds the end of the line if it lacks: a name alone is wrong without it too.
func parsePiece(piece []byte) (map[string]string, error) {
	if !bytes.HasSuffix(piece, []byte("\n")) {
		piece = append(slices.Clip(piece), '\n')
	}
	return godotenv.UnmarshalBytes(piece)
}

// openQuote tells whether the parser came to the end within quotes, and which.
func openQuote(err error) (quote byte, open bool) {
	if err == nil {
		return 0, false
	}
	value, open := strings.CutPrefix(err.Error(), "unterminated quoted value ")
	if !open || value == "" {
		return 0, false
	}
	return value[0], true
}

// closing returns how long text is up to the quote, from an offset on, that ends
// a value, and 0 if none does: for the parser, one without a backslash before it.
func closing(text []byte, from int, quote byte) int {
	for i := from; i < len(text); i++ {
		if text[i] == quote && text[i-1] != '\\' {
			return i + 1
		}
	}
	return 0
}

// envError is in place of the parser's, which shows what stands in the file.
func envError(file string, line int, quote bool) error {
	if quote {
		return fmt.Errorf("%s:%d: the quote that begins in this line is not closed", file, line)
	}
	return fmt.Errorf("%s:%d: want NAME=value", file, line)
}
