package realtime_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/amberhost/amber/realtime"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for vsn, want := range map[string]realtime.Version{
		"":      realtime.Version1,
		"1.0.0": realtime.Version1,
		"2.0.0": realtime.Version2,
	} {
		if got, err := realtime.ParseVersion(vsn); got != want || err != nil {
			t.Errorf("ParseVersion(%q) = %q, %v; want %q", vsn, got, err, want)
		}
	}
	for _, vsn := range []string{"2", "2.0", "3.0.0", "2.0.0 ", "v2.0.0"} {
		if got, err := realtime.ParseVersion(vsn); err == nil {
			t.Errorf("ParseVersion(%q) = %q, want an error", vsn, got)
		}
	}
}

// textFrames are frames in the very form that the encoders write.
var textFrames = []struct {
	name    string
	version realtime.Version
	to      realtime.Direction
	frame   string
	message realtime.Message
}{
	{
		"v1 join", realtime.Version1, realtime.ToServer,
		`{"topic":"realtime:room","event":"phx_join","payload":{"config":{}},"ref":"1","join_ref":"1"}`,
		realtime.Message{JoinRef: "1", Ref: "1", Topic: "realtime:room", Event: "phx_join", Payload: []byte(`{"config":{}}`)},
	},
	{
		"v1 heartbeat", realtime.Version1, realtime.ToServer,
		`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"2","join_ref":null}`,
		realtime.Message{Ref: "2", Topic: "phoenix", Event: "heartbeat", Payload: []byte(`{}`)},
	},
	{
		"v1 reply", realtime.Version1, realtime.ToClient,
		`{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2"}`,
		realtime.Message{Ref: "2", Topic: "phoenix", Event: "phx_reply", Payload: []byte(`{"status":"ok","response":{}}`)},
	},
	{
		"v1 fan-out", realtime.Version1, realtime.ToClient,
		`{"topic":"realtime:room","event":"presence_diff","payload":{"joins":{}},"ref":null}`,
		realtime.Message{Topic: "realtime:room", Event: "presence_diff", Payload: []byte(`{"joins":{}}`)},
	},
	{
		"v2 join", realtime.Version2, realtime.ToServer,
		`["1","1","realtime:room","phx_join",{"config":{}}]`,
		realtime.Message{JoinRef: "1", Ref: "1", Topic: "realtime:room", Event: "phx_join", Payload: []byte(`{"config":{}}`)},
	},
	{
		"v2 heartbeat reply", realtime.Version2, realtime.ToClient,
		`[null,"2","phoenix","phx_reply",{"status":"ok","response":{}}]`,
		realtime.Message{Ref: "2", Topic: "phoenix", Event: "phx_reply", Payload: []byte(`{"status":"ok","response":{}}`)},
	},
	{
		"v2 fan-out", realtime.Version2, realtime.ToClient,
		`[null,null,"realtime:a&b <é>","broadcast",{ "n": 1.0e+2, "s":"<\u00e9>" }]`,
		realtime.Message{Topic: "realtime:a&b <é>", Event: "broadcast", Payload: []byte(`{ "n": 1.0e+2, "s":"<\u00e9>" }`)},
	},
	{
		"v2 payload null", realtime.Version2, realtime.ToServer,
		`["1","9","","e",null]`,
		realtime.Message{JoinRef: "1", Ref: "9", Event: "e", Payload: []byte(`null`)},
	},
}

func TestText(t *testing.T) {
	t.Parallel()
	for _, tt := range textFrames {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := tt.version.DecodeText([]byte(tt.frame))
			if err != nil || !reflect.DeepEqual(m, tt.message) {
				t.Errorf("decoded %+v, %v; want %+v", m, err, tt.message)
			}
			frame, err := tt.version.EncodeText(tt.message, tt.to)
			if err != nil || string(frame) != tt.frame {
				t.Errorf("encoded %s, %v; want %s", frame, err, tt.frame)
			}
		})
	}
}

func TestDecodeTextIsLenientWhereClientsDiffer(t *testing.T) {
	t.Parallel()
	want := realtime.Message{Ref: "1", Topic: "t", Event: "e", Payload: []byte(`{"a": 1}`)}
	for _, tt := range []struct {
		version realtime.Version
		frame   string
	}{
		{realtime.Version1, `{"ref":"1","topic":"t","event":"e","payload":{"a": 1}}`},
		{realtime.Version1, ` { "payload" : {"a": 1} , "event":"e", "join_ref":"", "more":[1], "topic":"\u0074","ref":"1"} `},
		{realtime.Version2, " [ null , \"1\" , \"t\" , \"e\" , {\"a\": 1} ]\n"},
		{realtime.Version2, `["","1","t","e",{"a": 1}]`},
	} {
		if m, err := tt.version.DecodeText([]byte(tt.frame)); err != nil || !reflect.DeepEqual(m, want) {
			t.Errorf("%s: decoded %+v, %v; want %+v", tt.frame, m, err, want)
		}
	}
}

func TestDecodeTextRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		version   realtime.Version
		frame     string
		complaint string
	}{
		{realtime.Version1, ``, "unexpected end"},
		{realtime.Version1, `null`, "payload is missing"},
		{realtime.Version1, `["1","1","t","e",{}]`, "cannot unmarshal array"},
		{realtime.Version1, `{"topic":"t","event":"e","ref":"1"}`, "payload is missing"},
		{realtime.Version1, `{"event":"e","payload":{},"ref":"1"}`, "topic is not a string"},
		{realtime.Version1, `{"topic":"t","event":null,"payload":{}}`, "event is not a string"},
		{realtime.Version1, `{"topic":"t","event":"e","payload":{},"ref":1}`, "ref is not a string"},
		{realtime.Version1, `{"topic":"t","event":"e","payload":{}}{}`, "after top-level value"},
		{realtime.Version2, `{"topic":"t","event":"e","payload":{}}`, "cannot unmarshal object"},
		{realtime.Version2, `null`, "five elements"},
		{realtime.Version2, `["1","1","t","e"]`, "five elements"},
		{realtime.Version2, `["1","1","t","e",{},null]`, "five elements"},
		{realtime.Version2, `[1,"1","t","e",{}]`, "join_ref is not a string"},
		{realtime.Version2, `["1",[],"t","e",{}]`, "ref is not a string"},
		{realtime.Version2, `["1","1",null,"e",{}]`, "topic is not a string"},
		{realtime.Version2, `["1","1","t",true,{}]`, "event is not a string"},
		{realtime.Version2, `["1","1","t","e",{}] x`, "after top-level value"},
		{realtime.Version2, `["1","1","t","e",{]`, "invalid character"},
		{realtime.Version2, "[\"1\",\"1\",\"t\xff\",\"e\",{}]", "invalid UTF-8"},
		{realtime.Version2, "[\"1\",\"1\",\"t\",\"e\",\"\xff\"]", "invalid UTF-8"},
		{"", `["1","1","t","e",{}]`, "unknown serializer version"},
	} {
		m, err := tt.version.DecodeText([]byte(tt.frame))
		if err == nil || !strings.Contains(err.Error(), tt.complaint) {
			t.Errorf("%s: decoded %+v, %v; want an error that says %q", tt.frame, m, err, tt.complaint)
		}
	}
}

func TestEncodeTextRefuses(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]realtime.Message{
		"payload that ends the frame":  {Payload: []byte(`{}],[`)},
		"payload that is not UTF-8":    {Payload: []byte("\"\xff\"")},
		"topic that is not UTF-8":      {Topic: "\xff"},
		"one character in two strings": {JoinRef: "\xc3", Ref: "\xa9"},
	} {
		for _, v := range []realtime.Version{realtime.Version1, realtime.Version2} {
			if frame, err := v.EncodeText(m, realtime.ToServer); err == nil {
				t.Errorf("%s, version %s: encoded %s, want an error", name, v, frame)
			}
		}
	}
	if frame, err := realtime.Version("").EncodeText(realtime.Message{}, realtime.ToClient); err == nil {
		t.Errorf("no version: encoded %s, want an error", frame)
	}
}

func TestEncodeTextWritesNoPayloadAsEmptyObject(t *testing.T) {
	t.Parallel()
	frame, err := realtime.Version2.EncodeText(realtime.Message{JoinRef: "1", Ref: "1", Topic: "t", Event: "phx_close"}, realtime.ToClient)
	if want := `["1","1","t","phx_close",{}]`; err != nil || string(frame) != want {
		t.Errorf("encoded %s, %v; want %s", frame, err, want)
	}
}

// A server of 1.0.0 tells no client a join_ref, whatever the message holds.
func TestVersion1HidesJoinRefFromClient(t *testing.T) {
	t.Parallel()
	frame, err := realtime.Version1.EncodeText(realtime.Message{JoinRef: "1", Ref: "2", Topic: "t", Event: "e"}, realtime.ToClient)
	if want := `{"topic":"t","event":"e","payload":{},"ref":"2"}`; err != nil || string(frame) != want {
		t.Errorf("encoded %s, %v; want %s", frame, err, want)
	}
}

func TestMaxFrame(t *testing.T) {
	t.Parallel()
	text := []byte(`["1","1","t","e",{}]`)
	text = append(text, bytes.Repeat([]byte(" "), realtime.MaxFrame-len(text))...)
	binary := append([]byte{2, 1, 1, 't', 'e'}, make([]byte, realtime.MaxFrame-5)...)
	for name, tt := range map[string]struct {
		frame  []byte
		decode func([]byte) error
	}{
		"text":   {text, func(b []byte) error { _, err := realtime.Version2.DecodeText(b); return err }},
		"binary": {binary, func(b []byte) error { _, err := realtime.DecodeBinary(b); return err }},
	} {
		if err := tt.decode(tt.frame); err != nil {
			t.Errorf("%s of MaxFrame bytes: %v", name, err)
		}
		if err := tt.decode(append(tt.frame, ' ')); !errors.Is(err, realtime.ErrFrameTooLarge) {
			t.Errorf("%s of one byte more: %v, want ErrFrameTooLarge", name, err)
		}
	}
}

func FuzzDecodeTextVersion1(f *testing.F) { fuzzText(f, realtime.Version1) }

func FuzzDecodeTextVersion2(f *testing.F) { fuzzText(f, realtime.Version2) }

func fuzzText(f *testing.F, v realtime.Version) {
	for _, tt := range textFrames {
		f.Add([]byte(tt.frame))
	}
	f.Add([]byte(`["\ud800","\u2028","\u0000","<&>",[1e400]] `))
	f.Add([]byte(`{"Topic":"a","topic":"b","event":"","payload":"\ud83d","ref":"\u007f"}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		first, err := v.DecodeText(frame)
		if err != nil {
			return
		}
		again, err := v.EncodeText(first, realtime.ToServer)
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		if second, err := v.DecodeText(again); err != nil || !reflect.DeepEqual(second, first) {
			t.Errorf("decoded %+v, %v; at first %+v", second, err, first)
		}
	})
}
