package realtime_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/amberhost/amber/realtime"
)

// binaryFrames are laid out by hand: kind, lengths, encoding; fields; payload.
var binaryFrames = []struct {
	name    string
	frame   string
	message realtime.BinaryMessage
}{
	{
		"push",
		"\x00\x02\x03\x06\x05" + "12" + "123" + "realti" + "event" + "\xff\x00\x01",
		realtime.BinaryMessage{Kind: realtime.KindPush, JoinRef: "12", Ref: "123", Topic: "realti", Event: "event", Payload: []byte{0xff, 0, 1}},
	},
	{
		"reply",
		"\x01\x02\x03\x05\x02" + "12" + "123" + "topic" + "ok" + "efg",
		realtime.BinaryMessage{Kind: realtime.KindReply, JoinRef: "12", Ref: "123", Topic: "topic", Status: "ok", Payload: []byte("efg")},
	},
	{
		"broadcast",
		"\x02\x05\x05" + "topic" + "event" + `{"a": 1}`,
		realtime.BinaryMessage{Kind: realtime.KindBroadcast, Topic: "topic", Event: "event", Payload: []byte(`{"a": 1}`)},
	},
	{
		"user broadcast push of JSON",
		"\x03\x01\x02\x0d\x04\x10\x01" + "1" + "10" + "realtime:room" + "move" + `{"persist":true}` + `{ "x": 1 }`,
		realtime.BinaryMessage{
			Kind: realtime.KindUserBroadcastPush, JoinRef: "1", Ref: "10", Topic: "realtime:room", UserEvent: "move",
			Metadata: `{"persist":true}`, Encoding: realtime.PayloadJSON, Payload: []byte(`{ "x": 1 }`),
		},
	},
	{
		"user broadcast push of bytes, without refs or metadata",
		"\x03\x00\x00\x01\x01\x00\x00" + "t" + "e" + "\x80",
		realtime.BinaryMessage{Kind: realtime.KindUserBroadcastPush, Topic: "t", UserEvent: "e", Payload: []byte{0x80}},
	},
	{
		"user broadcast of JSON",
		"\x04\x0d\x05\x0a\x01" + "realtime:room" + "caf\xc3\xa9" + `{"id":"1"}` + `null`,
		realtime.BinaryMessage{
			Kind: realtime.KindUserBroadcast, Topic: "realtime:room", UserEvent: "café",
			Metadata: `{"id":"1"}`, Encoding: realtime.PayloadJSON, Payload: []byte(`null`),
		},
	},
	{
		"user broadcast of no bytes",
		"\x04\x01\x01\x00\x00" + "t" + "e",
		realtime.BinaryMessage{Kind: realtime.KindUserBroadcast, Topic: "t", UserEvent: "e", Payload: []byte{}},
	},
}

func TestBinary(t *testing.T) {
	t.Parallel()
	for _, tt := range binaryFrames {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := realtime.DecodeBinary([]byte(tt.frame))
			if err != nil || !reflect.DeepEqual(m, tt.message) {
				t.Errorf("decoded %+v, %v; want %+v", m, err, tt.message)
			}
			frame, err := realtime.EncodeBinary(tt.message)
			if err != nil || string(frame) != tt.frame {
				t.Errorf("encoded %q, %v; want %q", frame, err, tt.frame)
			}
		})
	}
}

// Without its payload, a frame that loses any one of its bytes is truncated.
func TestDecodeBinaryTruncated(t *testing.T) {
	t.Parallel()
	for _, tt := range binaryFrames {
		whole := strings.TrimSuffix(tt.frame, string(tt.message.Payload))
		for n := 1; n < len(whole); n++ {
			_, err := realtime.DecodeBinary([]byte(whole[:n]))
			if err == nil || !strings.Contains(err.Error(), tt.message.Kind.String()+": truncated") {
				t.Errorf("%s, first %d bytes: %v, want it truncated", tt.name, n, err)
			}
		}
	}
}

func TestDecodeBinaryRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ frame, complaint string }{
		{"", "empty"},
		{"\x05\x00\x00\x00\x00", "kind 5: unknown kind"},
		{"\xff", "kind 255: unknown kind"},
		{"\x02\x01\x01\xe9e", "broadcast: topic: invalid UTF-8"},
		{"\x02\x01\x01\xc3\xa9", "broadcast: topic: invalid UTF-8"},
		{"\x00\x01\x00\x00\x00\xff", "join_ref: invalid UTF-8"},
		{"\x04\x01\x01\x00\x02te", "unknown payload encoding 2"},
		{"\x04\x01\x01\x00\x01te", "payload is not JSON"},
		{"\x04\x01\x01\x00\x01te{} x", "payload is not JSON"},
		{"\x04\x01\x01\x00\x01te\"\xff\"", "payload is not JSON"},
		{"\x04\x01\x01\x01\x00te{", "metadata is not JSON"},
	} {
		m, err := realtime.DecodeBinary([]byte(tt.frame))
		if err == nil || !strings.Contains(err.Error(), tt.complaint) {
			t.Errorf("%q: decoded %+v, %v; want an error that says %q", tt.frame, m, err, tt.complaint)
		}
	}
}

func TestEncodeBinaryRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	for complaint, m := range map[string]realtime.BinaryMessage{
		"kind 5: unknown kind":                        {Kind: 5},
		"push: topic of 256 bytes is longer than 255": {Topic: long},
		"push: join_ref of 256 bytes":                 {JoinRef: long},
		"user broadcast: metadata of 256 bytes":       {Kind: realtime.KindUserBroadcast, Metadata: `"` + long[3:] + `" `},
		"user broadcast: metadata is not JSON":        {Kind: realtime.KindUserBroadcast, Metadata: "{"},
		"user broadcast: has no event":                {Kind: realtime.KindUserBroadcast, Event: "e"},
		"broadcast: has no ref":                       {Kind: realtime.KindBroadcast, Ref: "1"},
		"reply: has no payload encoding":              {Kind: realtime.KindReply, Encoding: realtime.PayloadJSON},
		"reply: status: invalid UTF-8":                {Kind: realtime.KindReply, Status: "\xff"},
		"user broadcast push: payload is not JSON":    {Kind: realtime.KindUserBroadcastPush, Encoding: realtime.PayloadJSON},
		"user broadcast push: unknown payload enc":    {Kind: realtime.KindUserBroadcastPush, Encoding: 7},
	} {
		frame, err := realtime.EncodeBinary(m)
		if err == nil || !strings.Contains(err.Error(), complaint) {
			t.Errorf("encoded %q, %v; want an error that says %q", frame, err, complaint)
		}
	}
}

func TestEncodeBinaryLongestField(t *testing.T) {
	t.Parallel()
	topic := strings.Repeat("é", 127) + "x" // 255 bytes
	frame, err := realtime.EncodeBinary(realtime.BinaryMessage{Kind: realtime.KindBroadcast, Topic: topic, Event: "e"})
	if want := "\x02\xff\x01" + topic + "e"; err != nil || string(frame) != want {
		t.Errorf("encoded %q, %v; want %q", frame, err, want)
	}
}

func FuzzDecodeBinary(f *testing.F) {
	for _, tt := range binaryFrames {
		f.Add([]byte(tt.frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		first, err := realtime.DecodeBinary(frame)
		if err != nil {
			return
		}
		again, err := realtime.EncodeBinary(first)
		if err != nil || !bytes.Equal(again, frame) {
			t.Fatalf("encoded %q, %v; decoded from %q", again, err, frame)
		}
		if second, err := realtime.DecodeBinary(again); err != nil || !reflect.DeepEqual(second, first) {
			t.Errorf("decoded %+v, %v; at first %+v", second, err, first)
		}
	})
}
