// Package wrappedkeystore is the service keystore: secrets and settings that
// tasks read and write, rows of public.keystore.
//
//	await tools.keystore.getKey('openai', 'API_KEY')   // the value, null if there is none
//	await tools.keystore.getKey('API_KEY')             // in namespace global
//	await tools.keystore.setKey('openai', 'API_KEY', 'sk-...')  // true
//	await tools.keystore.hasKey('openai', 'API_KEY')   // true or false
//	await tools.keystore.listKeys('openai')            // names, sorted
//	await tools.keystore.listNamespaces()              // ['global', 'openai'] while there is no key at all
//	await tools.keystore.getServerTime()               // {timestamp, source: 'keystore'}
//
// A value is text: setKey stores a string as it is and any other value as its
// JSON text. An empty value reads as null, as it always has; hasKey tells it
// from a missing one.
package wrappedkeystore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/service"
)

// Keystore is a [service.Service]. It is safe for concurrent use, and every
// call may be repeated.
type Keystore struct {
	pool *pgxpool.Pool
}

// New returns the keystore of a migrated database.
func New(pool *pgxpool.Pool) *Keystore { return &Keystore{pool: pool} }

type method func(k *Keystore, ctx context.Context, args []json.RawMessage) (any, error)

var known = map[string]method{
	"getKey":         (*Keystore).getKey,
	"setKey":         (*Keystore).setKey,
	"hasKey":         (*Keystore).hasKey,
	"listKeys":       (*Keystore).listKeys,
	"listNamespaces": (*Keystore).listNamespaces,
	"getServerTime":  (*Keystore).getServerTime,
}

// Call answers the methods above. Every caller sees every key.
func (k *Keystore) Call(ctx context.Context, call service.Call, _ service.Meta) (json.RawMessage, error) {
	answer, ok := known[call.Method()]
	if !ok {
		names := slices.Sorted(maps.Keys(known))
		return nil, service.Errorf(service.CodeUnknownMethod, "keystore has no method %q; it has %s", call.Method(), strings.Join(names, ", "))
	}
	value, err := answer(k, ctx, call.Args())
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return text, nil
}

// MaxReply implements [service.Sizer]: a value may be as large as an argument.
func (k *Keystore) MaxReply() int { return 8 << 20 }

// Secret implements [service.Secretive]: values are secret, names are not.
func (k *Keystore) Secret(call service.Call) (args, reply bool) {
	return call.Method() == "setKey", call.Method() == "getKey"
}

func (k *Keystore) getKey(ctx context.Context, args []json.RawMessage) (any, error) {
	namespace, key, err := location("getKey", args)
	if err != nil {
		return nil, err
	}
	var value string
	err = k.pool.QueryRow(ctx, `select value from public.keystore where scope = @scope and name = @name`,
		pgx.StrictNamedArgs{"scope": namespace, "name": key}).Scan(&value)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && value == "":
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get key: %w", err)
	}
	return value, nil
}

func (k *Keystore) setKey(ctx context.Context, args []json.RawMessage) (any, error) {
	if len(args) < 2 || len(args) > 3 {
		return nil, service.Errorf(service.CodeInvalidArgument, "keystore.setKey takes (key, value) or (namespace, key, value), not %d arguments", len(args))
	}
	last := len(args) - 1
	namespace, key, err := location("setKey", args[:last])
	if err != nil {
		return nil, err
	}
	value, err := text("setKey: the value", args[last])
	if err != nil {
		return nil, err
	}
	err = k.put(ctx, namespace, key, value)
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == uniqueViolation {
		err = k.put(ctx, namespace, key, value) // another made it a moment ago: now there is a row to update
	}
	if err != nil {
		return nil, fmt.Errorf("set key: %w", err)
	}
	return true, nil
}

// uniqueViolation is Postgres's SQLSTATE. keystore has a second unique index, for
// clients that know its columns as key_name and key_value, and "on conflict"
// heeds one.
const uniqueViolation = "23505"

func (k *Keystore) put(ctx context.Context, namespace, key, value string) error {
	_, err := k.pool.Exec(ctx, `
		insert into public.keystore (scope, name, value) values (@scope, @name, @value)
		on conflict (scope, name) do update set value = excluded.value`,
		pgx.StrictNamedArgs{"scope": namespace, "name": key, "value": value})
	return err
}

func (k *Keystore) hasKey(ctx context.Context, args []json.RawMessage) (any, error) {
	namespace, key, err := location("hasKey", args)
	if err != nil {
		return nil, err
	}
	var has bool
	err = k.pool.QueryRow(ctx, `select exists (select from public.keystore where scope = @scope and name = @name)`,
		pgx.StrictNamedArgs{"scope": namespace, "name": key}).Scan(&has)
	if err != nil {
		return nil, fmt.Errorf("look for key: %w", err)
	}
	return has, nil
}

func (k *Keystore) listKeys(ctx context.Context, args []json.RawMessage) (any, error) {
	namespace := defaultNamespace
	if len(args) > 0 && string(args[0]) != "null" {
		var err error
		if namespace, err = name("listKeys: the namespace", args[0]); err != nil {
			return nil, err
		}
	}
	return k.names(ctx, `select name from public.keystore where scope = @scope order by name collate "C"`,
		pgx.StrictNamedArgs{"scope": namespace})
}

func (k *Keystore) listNamespaces(ctx context.Context, _ []json.RawMessage) (any, error) {
	namespaces, err := k.names(ctx, `select scope from public.keystore group by scope order by scope collate "C"`, nil)
	if err == nil && len(namespaces) == 0 {
		namespaces = []string{defaultNamespace, "openai"}
	}
	return namespaces, err
}

func (k *Keystore) getServerTime(ctx context.Context, _ []json.RawMessage) (any, error) {
	var now time.Time
	if err := k.pool.QueryRow(ctx, `select now()`).Scan(&now); err != nil {
		return nil, fmt.Errorf("get server time: %w", err)
	}
	return struct {
		Timestamp string `json:"timestamp"`
		Source    string `json:"source"`
	}{now.UTC().Format("2006-01-02T15:04:05.000Z"), "keystore"}, nil
}

func (k *Keystore) names(ctx context.Context, query string, args pgx.StrictNamedArgs) ([]string, error) {
	rows, err := k.pool.Query(ctx, query, args)
	if err != nil {
		return nil, fmt.Errorf("list keystore: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list keystore: %w", err)
	}
	return names, nil
}
