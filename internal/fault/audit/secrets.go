package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// shortest is how long a secret must be: what is shorter is found by chance.
const shortest = 8

// secrets looks for the host's secrets in every column of every table of every
// schema but the system's own, raw, in hex and in base64 of any alignment.
func (a *auditor) secrets(ctx context.Context) error {
	needles := map[string][]string{}
	for name, secret := range a.cfg.Secrets {
		if len(secret) < shortest {
			return fmt.Errorf("the secret %q has %d bytes: fewer than %d are found by chance", name, len(secret), shortest)
		}
		needles[name] = spellings(secret)
	}
	if len(needles) == 0 {
		return nil
	}
	rows, err := a.db.Query(ctx, `
		select n.nspname, c.relname, a.attname, a.atttypid = 'bytea'::regtype as bytes
		from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
		where c.relkind in ('r', 'm') and a.attnum > 0 and not a.attisdropped
			and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
		order by n.nspname, c.relname, a.attnum`)
	if err != nil {
		return fmt.Errorf("list columns: %w", err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		return fmt.Errorf("list columns: %w", err)
	}
	for _, c := range columns {
		if err := a.search(ctx, c, needles); err != nil {
			return fmt.Errorf("search %s: %w", c, err)
		}
	}
	return nil
}

type column struct {
	Schema, Table, Name string
	Bytes               bool // bytea; all others are searched as text
}

func (c column) String() string { return c.Schema + "." + c.Table + "." + c.Name }

// search looks through one column.
func (a *auditor) search(ctx context.Context, c column, needles map[string][]string) error {
	value := pgx.Identifier{c.Name}.Sanitize()
	if !c.Bytes {
		value = "convert_to(" + value + "::text, 'UTF8')"
	}
	from := "only " + pgx.Identifier{c.Schema, c.Table}.Sanitize()
	rows, err := a.db.Query(ctx, "select ctid::text, "+value+" from "+from+" where "+pgx.Identifier{c.Name}.Sanitize()+" is not null")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if rows.FieldDescriptions()[1].Format != pgx.BinaryFormatCode {
			return errors.New("bytes come as text: audit through a connection that does not use the simple protocol")
		}
		raw := rows.RawValues()
		for _, name := range slices.Sorted(maps.Keys(needles)) {
			for _, needle := range needles[name] {
				if bytes.Contains(raw[1], []byte(needle)) {
					a.found(7, "a secret is in the tables", fmt.Sprintf("%s, row %s", c, raw[0]), "no "+name, name)
					break
				}
			}
		}
	}
	return rows.Err()
}

// spellings are the texts that a secret may be found as.
func spellings(secret []byte) []string {
	text := string(secret)
	digits := hex.EncodeToString(secret)
	all := []string{text, url.QueryEscape(text), url.PathEscape(text), digits, strings.ToUpper(digits)}
	if utf8.ValidString(text) {
		inJSON, _ := json.Marshal(text) // a string always can be
		all = append(all, string(inJSON[1:len(inJSON)-1]))
	}
	for shift := range 3 {
		// What comes before and after it in the same group of three bytes is not known.
		encoded := base64.RawStdEncoding.EncodeToString(slices.Concat(make([]byte, shift), secret))
		start, end := (shift*4+2)/3, len(encoded)
		if (shift+len(secret))%3 != 0 {
			end--
		}
		std := encoded[start:end]
		all = append(all, std, strings.NewReplacer("+", "-", "/", "_").Replace(std))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
