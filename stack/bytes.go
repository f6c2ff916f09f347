package stack

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
)

// The kinds of amber.replies: what a call was asked, and what it was answered.
const (
	kindRequest = "request" // a request
	kindReply   = "reply"   // a service.Reply
)

// request is what a row was asked. A task's own calls are service.Calls, which
// have no code: only Start and rows of others can give some.
type request struct {
	service.Call
	Code  string     `json:"code,omitempty"`  // given with the request; "" for a published task's
	Depth int        `json:"depth,omitempty"` // of a task: how many others it is nested in
	Root  *uuid.UUID `json:"root,omitempty"`  // of what a task called: the run of the first of those it is nested in

	Trace string `json:"trace,omitempty"` // of a run's own body: the header traceparent of whoever started it

	Refused *service.Error `json:"refused,omitempty"` // what it was answered when it was made, in case that was lost
}

// putBytes adds the exact bytes of a call or a reply, encrypted. The row's id
// and kind are the associated data: a row moved elsewhere does not open.
func (s *Store) putBytes(b *batch, id uuid.UUID, kind string, v any) error {
	plain, err := encode(v)
	if err != nil {
		return fmt.Errorf("%w: encode %s: %w", errUnstorable, kind, err)
	}
	keyID, sealed, err := s.ring.Seal(plain, bytesAD(id, kind))
	if err != nil {
		return fmt.Errorf("%w: seal %s: %w", errUnstorable, kind, err)
	}
	r := &b.rows.bytes
	r.ids, r.kinds, r.key, r.data = append(r.ids, id), append(r.kinds, kind), append(r.key, keyID), append(r.data, sealed)
	return nil
}

func (s *Store) openBytes(id uuid.UUID, kind, keyID string, sealed []byte, v any) error {
	plain, err := s.ring.Open(keyID, sealed, bytesAD(id, kind))
	if err != nil {
		return fmt.Errorf("%w: open %s of stack run %s: %w", errStuck, kind, id, err)
	}
	if err := json.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("%w: decode %s of stack run %s: %w", errStuck, kind, id, err)
	}
	return nil
}

func bytesAD(id uuid.UUID, kind string) []byte {
	return append(id[:], kind...)
}

// encode is json.Marshal without HTML escapes, so that raw texts inside keep
// their spelling.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Reply is an ended call that its caller has not seen.
type Reply struct {
	ID     uuid.UUID
	CallID uint32
	service.Reply
	last bool // no other had ended when it was read
}

// replies reads the calls of a body that have ended and that no committed slice
// has seen, in the order in which they ended; timers, which may have been
// answered late, in the order in which they were due. What a slice has seen that runs
// once more comes first, as it was given then.
func (s *Store) replies(rows pgx.Rows) ([]Reply, error) {
	type row struct {
		ID     uuid.UUID
		CallID int64
		Status string
		Result json.RawMessage
		Error  json.RawMessage
		KeyID  *string
		Data   []byte
		Last   bool
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return nil, err
	}
	var out []Reply
	for _, r := range found {
		re := Reply{ID: r.ID, CallID: uint32(r.CallID), last: r.Last}
		switch {
		case r.KeyID != nil:
			if err := s.openBytes(r.ID, kindReply, *r.KeyID, r.Data, &re.Reply); err != nil {
				return nil, err
			}
		case r.Status == StatusCompleted: // ended by somebody's SQL: the public columns are all there is
			re.Value = r.Result
		default:
			re.Err = publicError(r.Error, r.Status)
		}
		out = append(out, re)
	}
	return out, nil
}

// pieceBytes bounds the replies that a body gets at once, if they are more than one.
const pieceBytes = 16 << 20

// repliesSQL are the next replies for the body @body, not more than @most bytes of
// them: of the others none is read.
const repliesSQL = `/* replies */
	select id, call_id, status, result, error, key_id, data, n = many as last from (
		select s.id, s.call_id, s.status, s.result, s.error, r.key_id, r.data, s.retold, coalesce(s.due_at, s.ended_at) as at,
			row_number() over next as n, count(*) over () as many,
			sum(coalesce(octet_length(r.data), octet_length(s.result::text), 0)) over next as bytes
		from public.stack_runs s left join amber.replies r on r.stack_run_id = s.id and r.kind = 'reply'
		where s.parent_stack_run_id = @body and not s.delivered and s.call_id is not null
			and s.status in ('completed', 'failed', 'cancelled')
		window next as (order by s.retold, coalesce(s.due_at, s.ended_at), s.call_id) -- nulls come last
	) ended
	where n = 1 or bytes <= @most
	order by retold, at, call_id`

// publicError reads an error that somebody else wrote into a row: an object
// with a message, or any other JSON.
func publicError(raw json.RawMessage, status string) *service.Error {
	e := &service.Error{}
	if json.Unmarshal(raw, e) == nil && e.Message != "" {
		return e
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	if text == "" || text == "null" {
		text = "The call was set to " + status + "."
	}
	return &service.Error{Message: text, Code: service.CodeServiceError}
}
