// Package realtime speaks Supabase Realtime: Phoenix channels over a WebSocket.
//
// It holds the codec that both ends of a socket use. A text frame is a
// [Message], in the form of the socket's [Version]; a binary frame, which only
// 2.0.0 has, is a [BinaryMessage]:
//
//	version, err := realtime.ParseVersion(query.Get("vsn"))
//	m, err := version.DecodeText(frame)
//	...
//	frame, err := version.EncodeText(answer, realtime.ToClient)
//
// The forms are those of Phoenix's v1 and v2 JSON serializers, and of the
// binary kinds that Realtime's V2Serializer adds to the latter. The codec knows
// no channel: what an event means is for the client and the server to say.
package realtime
