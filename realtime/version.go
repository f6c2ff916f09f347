package realtime

import "fmt"

// MaxFrame is the size in bytes of the largest frame that decoders accept, and
// that Supabase's own server reads. Encoders do not enforce it.
const MaxFrame = 5_000_000

// ErrFrameTooLarge is what decoders return for a frame of more than [MaxFrame]
// bytes: a socket closes for it with status 1009.
var ErrFrameTooLarge = fmt.Errorf("frame is larger than %d bytes", MaxFrame)

// Version is the form of a socket's frames, which its client asks for with the
// query parameter vsn. The zero value is no version: see [ParseVersion].
type Version string

// The versions there are.
const (
	Version1 Version = "1.0.0" // text frames only, a JSON object each
	Version2 Version = "2.0.0" // text frames, a JSON array each, and binary frames
)

// ParseVersion returns the version that vsn names. A client that names none
// gets 1.0.0, as it does from Phoenix.
func ParseVersion(vsn string) (Version, error) {
	switch v := Version(vsn); v {
	case "":
		return Version1, nil
	case Version1, Version2:
		return v, nil
	}
	return "", fmt.Errorf("serializer version %q is neither %s nor %s", vsn, Version1, Version2)
}

// Direction says which end of the socket a frame goes to.
type Direction string

// The two directions.
const (
	ToServer Direction = "to server"
	ToClient Direction = "to client"
)
