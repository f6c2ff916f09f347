package migrations

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// readers are functions that conversions use; they are dropped again.
//
// Text becomes the object or array that it is the JSON of, and else a string:
// a reader of the original's error text finds the same text.
const readers = `
create function amber.adopt_json(t text, scalars boolean) returns jsonb strict language plpgsql as $$
begin
  if scalars or t ~ '^\s*[\[{]' then
    return t::jsonb;
  end if;
  return to_jsonb(t);
exception when others then -- no JSON, or none that jsonb can hold
  return to_jsonb(t);
end $$;
create function amber.adopt_bytes(b bytea) returns jsonb strict language plpgsql as $$
begin
  if convert_from(b, 'UTF8') ~ '^\s*[\[{]' then
    return convert_from(b, 'UTF8')::jsonb;
  end if;
  raise data_exception;
exception when others then
  return jsonb_build_object('base64', translate(encode(b, 'base64'), E'\n', ''));
end $$;
`

const dropReaders = `drop function amber.adopt_json(text, boolean), amber.adopt_bytes(bytea)`

// conversion is the expression that makes a column's values those of the wanted
// type: "" if they are already, not ok if there is none.
func conversion(have, want column) (using string, ok bool) {
	if have.Type == want.Type {
		return "", true
	}
	c := quoted(have.Name)
	kind, _, _ := strings.Cut(have.Type, "(") // without a length
	textual := have.Enum || slices.Contains([]string{"text", "character varying", "character", "name"}, kind)
	array := strings.HasSuffix(have.Type, "[]") && slices.Contains([]string{"text", "character varying", "jsonb", "json"}, strings.TrimSuffix(kind, "[]"))
	switch {
	case want.Type == "text" && textual:
		return c + "::text", true
	case want.Type == "jsonb" && textual:
		return "amber.adopt_json(" + c + "::text, false)", true
	case want.Type == "jsonb" && have.Type == "json":
		return "amber.adopt_json(" + c + "::text, true)", true
	case want.Type == "jsonb" && array:
		return "to_jsonb(" + c + ")", true
	case want.Type == "jsonb" && have.Type == "bytea":
		return "amber.adopt_bytes(" + c + ")", true
	case want.Type == "uuid" && textual && !have.Enum:
		return c + "::text::uuid", true
	case want.Type == "timestamp with time zone" && strings.HasSuffix(have.Type, "without time zone") && strings.HasPrefix(kind, "timestamp"):
		return c + " at time zone 'UTC'", true
	case want.Type == "timestamp with time zone" && kind == "timestamp":
		return c + "::timestamptz", true // of a lower precision
	case want.Type == "bigint" && have.Type == "integer", want.Type == "integer" && have.Type == "smallint":
		return c + "::" + want.Type, true
	}
	return "", false
}

// columns adds those that are missing and converts those of another type.
func (a *adoption) columns(ctx context.Context) error {
	if _, err := exec(ctx, a.tx, readers); err != nil {
		return fmt.Errorf("make functions to convert with: %w", err)
	}
	err := a.each(func(name string, wanted, have *table) error {
		for i := range have.columns {
			if err := a.convert(ctx, name, wanted, &have.columns[i]); err != nil {
				return err
			}
		}
		return a.addColumns(ctx, name, wanted, have)
	})
	if err != nil {
		return err
	}
	_, err = exec(ctx, a.tx, dropReaders)
	return err
}

// convert gives one column its type, its default, and nulls where ours has some.
func (a *adoption) convert(ctx context.Context, name string, wanted *table, h *column) error {
	alter := `alter table public.` + name + ` alter column ` + quoted(h.Name) + ` `
	w := wanted.column(h.Name)
	if w == nil {
		if h.Required && h.Default == "" && !h.Generated && !h.Numbered {
			return a.do(ctx, fmt.Sprintf("%s.%s: may be null, since amber does not write it", name, h.Name), alter+`drop not null`)
		}
		return nil
	}
	if using, _ := conversion(*h, *w); using != "" {
		if h.Default != "" { // which may not have a meaning in the new type
			if err := a.do(ctx, "", alter+`drop default`); err != nil {
				return err
			}
			h.Default = ""
		}
		what := fmt.Sprintf("%s.%s: %s becomes %s", name, h.Name, h.Type, w.Type)
		if err := a.do(ctx, what, alter+`type `+w.Type+` using `+using); err != nil {
			return err
		}
		h.Type = w.Type
	}
	if w.Default != "" && h.Default != w.Default {
		what := fmt.Sprintf("%s.%s: the default is %s", name, h.Name, w.Default)
		if err := a.do(ctx, what, alter+`set default `+w.Default); err != nil {
			return err
		}
	}
	if h.Required && !w.Required {
		return a.do(ctx, fmt.Sprintf("%s.%s: may be null", name, h.Name), alter+`drop not null`)
	}
	return nil
}

func (a *adoption) addColumns(ctx context.Context, name string, wanted, have *table) error {
	var names, clauses []string
	for _, w := range wanted.columns {
		if have.column(w.Name) != nil {
			continue
		}
		clause := `add column ` + quoted(w.Name) + ` ` + w.Type
		if w.Default != "" {
			clause += ` default ` + w.Default
			if w.Required {
				clause += ` not null`
			}
		} else {
			w.Required = false // until its rows are filled
		}
		names, clauses = append(names, w.Name), append(clauses, clause)
		have.columns = append(have.columns, w)
	}
	if len(names) == 0 {
		return nil
	}
	return a.do(ctx, name+": columns added: "+strings.Join(names, ", "),
		`alter table public.`+name+` `+strings.Join(clauses, `, `))
}

// require gives our columns their "not null", once no row lacks a value.
func (a *adoption) require(ctx context.Context) error {
	return a.each(func(name string, wanted, have *table) error {
		for _, w := range wanted.columns {
			if !w.Required || have.column(w.Name).Required {
				continue
			}
			if err := a.do(ctx, name+"."+w.Name+": is not null", `alter table public.`+name+` alter column `+quoted(w.Name)+` set not null`); err != nil {
				return err
			}
		}
		return nil
	})
}
