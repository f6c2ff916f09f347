package supabase

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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

// ParseEnv is [ReadEnv] for the text of one file; file is its name in messages.
//
// The CLI's own parser reads it, so that both take it for the same. That one
// knows no lines: they are found by reading statement by statement first.
func ParseEnv(file string, text []byte) (Env, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	places := map[string]int{}
	line, statement := 1, []byte(nil)
	for part := range bytes.Lines(text) {
		if statement = append(statement, part...); !bytes.HasSuffix(part, []byte("\n")) {
			statement = append(statement, '\n') // a name alone is wrong in the last line too
		}
		said, err := godotenv.UnmarshalBytes(statement)
		if notClosed(err) {
			continue // a value in quotes may go on in the next line
		}
		lines := bytes.Count(statement, []byte("\n"))
		if _, nameless := said[""]; err != nil || nameless {
			return nil, envError(file, line, lines > 1)
		}
		for name := range said {
			places[name] = line
		}
		line += lines
		statement = statement[:0]
	}
	if len(statement) > 0 {
		return nil, envError(file, line, true)
	}
	texts, err := godotenv.UnmarshalBytes(text)
	if err != nil {
		return nil, envError(file, line, notClosed(err))
	}
	env := make(Env, len(texts))
	for name, text := range texts {
		env[name] = Value{Path: name, Text: text, File: file, Line: places[name]}
	}
	return env, nil
}

// notClosed tells that the parser came to the end within quotes.
func notClosed(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "unterminated quoted value")
}

// envError is in place of the parser's, which shows what stands in the file.
func envError(file string, line int, quote bool) error {
	if quote {
		return fmt.Errorf("%s:%d: the quote that begins in this line is not closed", file, line)
	}
	return fmt.Errorf("%s:%d: want NAME=value", file, line)
}
