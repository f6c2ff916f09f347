package wrappedkeystore

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/amberhost/amber/service"
)

const defaultNamespace = "global"

// location reads (key) or (namespace, key); a namespace of null is the default.
func location(method string, args []json.RawMessage) (namespace, key string, err error) {
	namespace = defaultNamespace
	switch len(args) {
	case 1:
	case 2:
		if string(args[0]) != "null" {
			if namespace, err = name(method+": the namespace", args[0]); err != nil {
				return "", "", err
			}
		}
	default:
		return "", "", service.Errorf(service.CodeInvalidArgument, "keystore.%s takes (key) or (namespace, key), not %d arguments", method, len(args))
	}
	key, err = name(method+": the key", args[len(args)-1])
	return namespace, key, err
}

// name reads a string that is not empty.
func name(what string, arg json.RawMessage) (string, error) {
	if !isString(arg) || string(bytes.TrimSpace(arg)) == `""` {
		return "", service.Errorf(service.CodeInvalidArgument, "keystore.%s must be a string that is not empty", what)
	}
	return text(what, arg)
}

// text reads a string as it is and any other value as its JSON text.
func text(what string, arg json.RawMessage) (string, error) {
	if !isString(arg) {
		return string(arg), nil
	}
	if hasLoneSurrogate(string(arg)) {
		return "", service.Errorf(service.CodeInvalidArgument, "keystore.%s holds half of a surrogate pair, which a row cannot", what)
	}
	var s string
	if err := json.Unmarshal(arg, &s); err != nil {
		return "", service.Errorf(service.CodeInvalidArgument, "keystore.%s is not JSON", what)
	}
	if strings.ContainsRune(s, 0) {
		return "", service.Errorf(service.CodeInvalidArgument, "keystore.%s holds a NUL character, which a row cannot", what)
	}
	return s, nil
}

func isString(arg json.RawMessage) bool {
	return bytes.HasPrefix(bytes.TrimSpace(arg), []byte(`"`))
}

// hasLoneSurrogate looks for an escape of one half of a surrogate pair without
// the other: encoding/json would quietly put U+FFFD there.
func hasLoneSurrogate(quoted string) bool {
	for i := 0; i < len(quoted); i++ {
		if quoted[i] != '\\' {
			continue
		}
		switch half := surrogate(quoted[i:]); {
		case half == 0:
			i++ // another escape
		case half < 0xdc00 && surrogate(quoted[i+6:]) >= 0xdc00:
			i += 11
		default:
			return true
		}
	}
	return false
}

// surrogate returns the surrogate that s begins with the escape of, else 0.
func surrogate(s string) uint64 {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0
	}
	code, err := strconv.ParseUint(s[2:6], 16, 16)
	if err != nil || code < 0xd800 || code > 0xdfff {
		return 0
	}
	return code
}
