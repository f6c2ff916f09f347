package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// Kind is the first byte of a binary frame.
type Kind byte

// The kinds of binary frame. The first three are Phoenix's own, the last two
// are Realtime's.
const (
	KindPush              Kind = 0 // to the server; pushes to a client have no ref, and are not read here
	KindReply             Kind = 1 // to the client
	KindBroadcast         Kind = 2 // to the client
	KindUserBroadcastPush Kind = 3 // to the server: how realtime-js sends every broadcast
	KindUserBroadcast     Kind = 4 // to the client: the only kind that realtime-js reads
)

// kinds has the fields of each kind in wire order. A frame is the kind, one byte
// of length per field, for user broadcasts one byte of [PayloadEncoding], the
// fields, and the payload.
var kinds = [...]struct {
	name   string
	fields []string
}{
	KindPush:              {"push", []string{"join_ref", "ref", "topic", "event"}},
	KindReply:             {"reply", []string{"join_ref", "ref", "topic", "status"}},
	KindBroadcast:         {"broadcast", []string{"topic", "event"}},
	KindUserBroadcastPush: {"user broadcast push", []string{"join_ref", "ref", "topic", "user_event", "metadata"}},
	KindUserBroadcast:     {"user broadcast", []string{"topic", "user_event", "metadata"}},
}

// String returns "push", "user broadcast", or "kind 9" for one that is not known.
func (k Kind) String() string {
	if !k.known() {
		return fmt.Sprintf("kind %d", byte(k))
	}
	return kinds[k].name
}

func (k Kind) known() bool { return int(k) < len(kinds) }

func (k Kind) hasEncoding() bool { return k == KindUserBroadcastPush || k == KindUserBroadcast }

// PayloadEncoding says what the payload of a user broadcast is.
type PayloadEncoding byte

// The encodings of a user broadcast's payload.
const (
	PayloadBinary PayloadEncoding = 0 // any bytes
	PayloadJSON   PayloadEncoding = 1 // JSON text
)

// BinaryMessage is what a binary frame carries. Each field but the payload has
// at most 255 bytes of UTF-8, and is empty where its comment does not name Kind.
type BinaryMessage struct {
	Kind      Kind
	JoinRef   string          // push, reply, user broadcast push; empty for none
	Ref       string          // push, reply, user broadcast push; empty for none
	Topic     string          // every kind
	Event     string          // push, broadcast
	Status    string          // reply: "ok" or "error"
	UserEvent string          // both user broadcasts, whose event is "broadcast"
	Metadata  string          // both user broadcasts: JSON text, or empty
	Encoding  PayloadEncoding // both user broadcasts
	Payload   []byte          // every kind; exact
}

type field struct {
	name  string
	value *string
}

// fields are the fields of all kinds, in an order that agrees with every kind's.
func (m *BinaryMessage) fields() []field {
	return []field{
		{"join_ref", &m.JoinRef},
		{"ref", &m.Ref},
		{"topic", &m.Topic},
		{"event", &m.Event},
		{"status", &m.Status},
		{"user_event", &m.UserEvent},
		{"metadata", &m.Metadata},
	}
}

// DecodeBinary reads a binary frame of version 2.0.0. The message's payload
// shares frame's memory.
//
// From a topic or event with characters outside ASCII, realtime-js makes a user
// broadcast push that is seldom UTF-8, and then an error here: of each character
// it writes the low byte of the UTF-16 code.
func DecodeBinary(frame []byte) (BinaryMessage, error) {
	if len(frame) > MaxFrame {
		return BinaryMessage{}, fmt.Errorf("decode binary frame: %w", ErrFrameTooLarge)
	}
	if len(frame) == 0 {
		return BinaryMessage{}, errors.New("decode binary frame: empty")
	}
	m := BinaryMessage{Kind: Kind(frame[0])}
	err := m.decode(frame[1:])
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return BinaryMessage{}, fmt.Errorf("decode binary frame: %s: %w", m.Kind, err)
	}
	return m, nil
}

func (m *BinaryMessage) decode(rest []byte) error {
	if !m.Kind.known() {
		return errUnknownKind
	}
	n := len(kinds[m.Kind].fields)
	header := n
	if m.Kind.hasEncoding() {
		header++
	}
	if len(rest) < header {
		return fmt.Errorf("truncated: header takes %d bytes, %d left", header, len(rest))
	}
	lengths := rest[:n]
	if m.Kind.hasEncoding() {
		m.Encoding = PayloadEncoding(rest[n])
	}
	rest = rest[header:]
	for _, f := range m.fields() {
		i := slices.Index(kinds[m.Kind].fields, f.name)
		if i < 0 {
			continue
		}
		size := int(lengths[i])
		if len(rest) < size {
			return fmt.Errorf("truncated: %s takes %d bytes, %d left", f.name, size, len(rest))
		}
		*f.value, rest = string(rest[:size]), rest[size:]
	}
	m.Payload = rest
	return nil
}

var errUnknownKind = errors.New("unknown kind")

// EncodeBinary returns the binary frame of m. A field that m's kind cannot
// carry is an error.
func EncodeBinary(m BinaryMessage) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("encode binary frame: %s: %w", m.Kind, err)
	}
	frame := []byte{byte(m.Kind)}
	var body []byte
	for _, f := range m.fields() {
		if slices.Contains(kinds[m.Kind].fields, f.name) {
			frame = append(frame, byte(len(*f.value)))
			body = append(body, *f.value...)
		}
	}
	if m.Kind.hasEncoding() {
		frame = append(frame, byte(m.Encoding))
	}
	return slices.Concat(frame, body, m.Payload), nil
}

// check is what holds for every message that is read or written.
func (m *BinaryMessage) check() error {
	if !m.Kind.known() {
		return errUnknownKind
	}
	for _, f := range m.fields() {
		switch {
		case *f.value != "" && !slices.Contains(kinds[m.Kind].fields, f.name):
			return fmt.Errorf("has no %s", f.name)
		case len(*f.value) > math.MaxUint8:
			return fmt.Errorf("%s of %d bytes is longer than %d", f.name, len(*f.value), math.MaxUint8)
		case !utf8.ValidString(*f.value):
			return fmt.Errorf("%s: %w", f.name, errInvalidUTF8)
		}
	}
	if m.Metadata != "" && !json.Valid([]byte(m.Metadata)) {
		return errors.New("metadata is not JSON")
	}
	return m.checkPayload()
}

// checkPayload keeps text that is not JSON from everybody who would parse it.
func (m *BinaryMessage) checkPayload() error {
	switch {
	case m.Encoding == PayloadBinary:
		return nil
	case !m.Kind.hasEncoding():
		return errors.New("has no payload encoding")
	case m.Encoding != PayloadJSON:
		return fmt.Errorf("unknown payload encoding %d", m.Encoding)
	case !json.Valid(m.Payload) || !utf8.Valid(m.Payload):
		return errors.New("payload is not JSON")
	}
	return nil
}
