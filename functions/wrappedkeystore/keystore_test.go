package wrappedkeystore_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/functions/wrappedkeystore"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/service"
)

// call is tools.keystore.<method>(...args).
func call(method string, args ...string) service.Call {
	step := service.Step{Type: service.StepCall, Property: method}
	for _, arg := range args {
		step.Args = append(step.Args, json.RawMessage(arg))
	}
	return service.Call{Service: "keystore", Steps: []service.Step{step}}
}

func open(t *testing.T) (*wrappedkeystore.Keystore, *pgxpool.Pool) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return wrappedkeystore.New(pool), pool
}

// TestCalls makes calls one after the other in one database.
func TestCalls(t *testing.T) {
	t.Parallel()
	keystore, _ := open(t)
	for _, test := range []struct {
		call service.Call
		want string
	}{
		{call("listNamespaces"), `["global","openai"]`},
		{call("listKeys", `"openai"`), `[]`},
		{call("getKey", `"global"`, `"A"`), `null`},
		{call("hasKey", `"A"`), `false`},
		{call("setKey", `"A"`, `"1"`), `true`},
		{call("getKey", `"A"`), `"1"`},
		{call("getKey", `"global"`, `"A"`), `"1"`},
		{call("getKey", `null`, `"A"`), `"1"`},
		{call("getKey", `"other"`, `"A"`), `null`},
		{call("hasKey", `"A"`), `true`},
		{call("setKey", `"A"`, `"2"`), `true`},
		{call("getKey", `"A"`), `"2"`},
		{call("setKey", `"other"`, `"A"`, `"3"`), `true`},
		{call("getKey", `"other"`, `"A"`), `"3"`},
		{call("setKey", `"json"`, `{"b":1.50, "a":"\u0000"}`), `true`},
		{call("getKey", `"json"`), `"{\"b\":1.50, \"a\":\"\\u0000\"}"`},
		{call("setKey", `"number"`, `-0`), `true`},
		{call("getKey", `"number"`), `"-0"`},
		{call("setKey", `"pair"`, `"\ud83d\ude00\\ud800"`), `true`},
		{call("getKey", `"pair"`), `"😀\\ud800"`},
		{call("setKey", `"empty"`, `""`), `true`},
		{call("getKey", `"empty"`), `null`},
		{call("hasKey", `"empty"`), `true`},
		{call("listKeys"), `["A","empty","json","number","pair"]`},
		{call("listKeys", `"other"`), `["A"]`},
		{call("listNamespaces"), `["global","other"]`},
	} {
		got, err := keystore.Call(t.Context(), test.call, service.Meta{})
		if err != nil || string(got) != test.want {
			t.Errorf("%s(%s) = %s, %v; want %s", test.call.Method(), test.call.Args(), got, err, test.want)
		}
	}
}

// TestSetAtOnce has many make one key at once: whoever is second updates it.
func TestSetAtOnce(t *testing.T) {
	t.Parallel()
	keystore, _ := open(t)
	for round := range 20 {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := keystore.Call(t.Context(), call("setKey", fmt.Sprintf(`"k%d"`, round), `"v"`), service.Meta{}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
}

func TestServerTime(t *testing.T) {
	t.Parallel()
	keystore, _ := open(t)
	got, err := keystore.Call(t.Context(), call("getServerTime"), service.Meta{})
	if err != nil || !regexp.MustCompile(`^\{"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","source":"keystore"\}$`).Match(got) {
		t.Errorf("getServerTime: %s, %v", got, err)
	}
}

// TestOldColumns: clients of one generation write key_name and key_value.
func TestOldColumns(t *testing.T) {
	t.Parallel()
	keystore, pool := open(t)
	if _, err := pool.Exec(t.Context(), `insert into public.keystore (key_name, key_value) values ('K', 'v')`); err != nil {
		t.Fatal(err)
	}
	if got, err := keystore.Call(t.Context(), call("getKey", `"K"`), service.Meta{}); err != nil || string(got) != `"v"` {
		t.Errorf("getKey: %s, %v", got, err)
	}
	if _, err := keystore.Call(t.Context(), call("setKey", `"K"`, `"w"`), service.Meta{}); err != nil {
		t.Fatal(err)
	}
	var value string
	if err := pool.QueryRow(t.Context(), `select key_value from public.keystore`).Scan(&value); err != nil || value != "w" {
		t.Errorf("key_value %q, %v", value, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	keystore, _ := open(t)
	for _, test := range []struct {
		call service.Call
		code string
		want string
	}{
		{call("get", `"A"`), service.CodeUnknownMethod, `keystore has no method "get"; it has getKey, getServerTime, hasKey, listKeys, listNamespaces, setKey`},
		{service.Call{Service: "keystore", Steps: []service.Step{{Type: service.StepCall, Args: nil}}}, service.CodeUnknownMethod, ""},
		{call("getKey"), service.CodeInvalidArgument, "keystore.getKey takes (key) or (namespace, key), not 0 arguments"},
		{call("getKey", `"a"`, `"b"`, `"c"`), service.CodeInvalidArgument, ""},
		{call("getKey", `5`), service.CodeInvalidArgument, "keystore.getKey: the key must be a string that is not empty"},
		{call("getKey", `""`), service.CodeInvalidArgument, ""},
		{call("getKey", `{}`, `"b"`), service.CodeInvalidArgument, "keystore.getKey: the namespace must be a string that is not empty"},
		{call("getKey", `"a\u0000"`), service.CodeInvalidArgument, "keystore.getKey: the key holds a NUL character, which a row cannot"},
		{call("getKey", `"a\ud800"`), service.CodeInvalidArgument, ""},
		{call("getKey", `"\udc00\ud800"`), service.CodeInvalidArgument, ""},
		{call("setKey", `"a"`), service.CodeInvalidArgument, "keystore.setKey takes (key, value) or (namespace, key, value), not 1 arguments"},
		{call("setKey", `"a"`, `"x\ud800\n"`), service.CodeInvalidArgument, "keystore.setKey: the value holds half of a surrogate pair, which a row cannot"},
		{call("listKeys", `7`), service.CodeInvalidArgument, ""},
	} {
		_, err := keystore.Call(t.Context(), test.call, service.Meta{})
		var refused *service.Error
		if !errors.As(err, &refused) || refused.Code != test.code || test.want != "" && refused.Message != test.want {
			t.Errorf("%s(%s): %v; want %s %s", test.call.Method(), test.call.Args(), err, test.code, test.want)
		}
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	var keystore service.Secretive = new(wrappedkeystore.Keystore)
	for method, want := range map[string][2]bool{
		"getKey": {false, true}, "setKey": {true, false}, "hasKey": {}, "listKeys": {}, "listNamespaces": {}, "getServerTime": {},
	} {
		if args, reply := keystore.Secret(call(method)); [2]bool{args, reply} != want {
			t.Errorf("Secret(%s) = %v, %v, want %v", method, args, reply, want)
		}
	}
}
