package realtime

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Message is what a text frame carries.
type Message struct {
	// JoinRef is the ref of the phx_join that the message's channel began with,
	// and Ref what a reply repeats. Empty stands for JSON's null, and an empty
	// string on the wire is read as null.
	JoinRef, Ref string

	Topic, Event string

	// Payload is exact JSON text, written and read without a change; empty is
	// written as {}.
	Payload json.RawMessage
}

// DecodeText reads a text frame of version v, in either direction. The message
// shares no memory with frame.
func (v Version) DecodeText(frame []byte) (Message, error) {
	m, err := v.decodeText(frame)
	if err != nil {
		return Message{}, fmt.Errorf("decode text frame: %w", err)
	}
	return m, nil
}

func (v Version) decodeText(frame []byte) (Message, error) {
	if len(frame) > MaxFrame {
		return Message{}, ErrFrameTooLarge
	}
	// encoding/json would mend it in strings and let it pass in the payload.
	if !utf8.Valid(frame) {
		return Message{}, errInvalidUTF8
	}
	switch v {
	case Version1:
		return decodeObject(frame)
	case Version2:
		return decodeArray(frame)
	}
	return Message{}, fmt.Errorf("unknown serializer version %q", string(v))
}

var errInvalidUTF8 = errors.New("invalid UTF-8")

// decodeObject reads {"topic","event","payload","ref","join_ref"}; the last two
// may be absent.
func decodeObject(frame []byte) (Message, error) {
	var o struct {
		JoinRef json.RawMessage `json:"join_ref"`
		Ref     json.RawMessage `json:"ref"`
		Topic   json.RawMessage `json:"topic"`
		Event   json.RawMessage `json:"event"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(frame, &o); err != nil {
		return Message{}, err
	}
	return newMessage(o.JoinRef, o.Ref, o.Topic, o.Event, o.Payload)
}

// decodeArray reads [join_ref, ref, topic, event, payload].
func decodeArray(frame []byte) (Message, error) {
	// An array, not a slice: a frame of a million elements allocates for six.
	var a [6]json.RawMessage
	if err := json.Unmarshal(frame, &a); err != nil {
		return Message{}, err
	}
	if a[4] == nil || a[5] != nil {
		return Message{}, errors.New("not an array of five elements")
	}
	return newMessage(a[0], a[1], a[2], a[3], a[4])
}

func newMessage(joinRef, ref, topic, event, payload json.RawMessage) (Message, error) {
	if payload == nil {
		return Message{}, errors.New("payload is missing")
	}
	m := Message{Payload: payload}
	err := cmp.Or(
		unquote("join_ref", orEmpty(joinRef), &m.JoinRef),
		unquote("ref", orEmpty(ref), &m.Ref),
		unquote("topic", topic, &m.Topic),
		unquote("event", event, &m.Event),
	)
	return m, err
}

func orEmpty(raw json.RawMessage) json.RawMessage {
	if raw == nil || string(raw) == "null" {
		return json.RawMessage(`""`)
	}
	return raw
}

func unquote(name string, raw json.RawMessage, s *string) error {
	if len(raw) == 0 || raw[0] != '"' {
		return fmt.Errorf("%s is not a string", name)
	}
	return json.Unmarshal(raw, s)
}

// EncodeText returns the text frame of m in version v. An object of 1.0.0 that
// goes to the client has no join_ref.
func (v Version) EncodeText(m Message, to Direction) ([]byte, error) {
	frame, err := v.encodeText(m, to)
	if err != nil {
		return nil, fmt.Errorf("encode text frame: %w", err)
	}
	return frame, nil
}

func (v Version) encodeText(m Message, to Direction) ([]byte, error) {
	if len(m.Payload) == 0 {
		m.Payload = json.RawMessage("{}")
	}
	if !json.Valid(m.Payload) {
		return nil, errors.New("payload is not JSON")
	}
	// The spaces keep two halves of a character from meeting.
	if !utf8.Valid(m.Payload) || !utf8.ValidString(m.JoinRef+" "+m.Ref+" "+m.Topic+" "+m.Event) {
		return nil, errInvalidUTF8
	}
	switch v {
	case Version1:
		return encodeObject(m, to), nil
	case Version2:
		return fmt.Appendf(nil, "[%s,%s,%s,%s,%s]",
			nullable(m.JoinRef), nullable(m.Ref), quote(m.Topic), quote(m.Event), m.Payload), nil
	}
	return nil, fmt.Errorf("unknown serializer version %q", string(v))
}

func encodeObject(m Message, to Direction) []byte {
	joinRef := ""
	if to == ToServer {
		joinRef = `,"join_ref":` + nullable(m.JoinRef)
	}
	return fmt.Appendf(nil, `{"topic":%s,"event":%s,"payload":%s,"ref":%s%s}`,
		quote(m.Topic), quote(m.Event), m.Payload, nullable(m.Ref), joinRef)
}

func nullable(ref string) string {
	if ref == "" {
		return "null"
	}
	return quote(ref)
}

// quote returns s as JSON, without the escapes that json.Marshal makes for HTML.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // every string has a JSON form
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
