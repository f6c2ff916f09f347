package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/amberhost/amber/service"
)

// Client is the service that hosts register as [Name]. It is safe for
// concurrent use.
type Client struct {
	URL  string       // of the ledger, "http://127.0.0.1:8080"
	HTTP *http.Client // nil means http.DefaultClient
}

var _ service.Service = Client{}

// Call implements [service.Service].
func (c Client) Call(ctx context.Context, call service.Call, meta service.Meta) (json.RawMessage, error) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(asked{Call: call, Meta: meta}); err != nil {
		return nil, fmt.Errorf("ask ledger: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/call", &body)
	if err != nil {
		return nil, fmt.Errorf("ask ledger: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	// With it net/http asks again when a connection that it kept turns out closed.
	req.Header.Set("Idempotency-Key", meta.IdempotencyKey)
	raw, header, err := c.do(req)
	if err != nil {
		return nil, fmt.Errorf("ask ledger: %w", err)
	}
	var reply service.Reply
	if err := json.Unmarshal(raw, &reply); err != nil {
		return nil, fmt.Errorf("ask ledger: answer: %w", err)
	}
	if reply.Err != nil {
		reply.Err.RetryAfter, _ = time.ParseDuration(header.Get(retryAfter)) // 0 if there is none
		return nil, reply.Err
	}
	return reply.Value, nil
}

// Entries reads all entries back.
func (c Client) Entries(ctx context.Context) ([]Entry, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+"/entries", nil)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	raw, _, err := c.do(req)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return Decode(bytes.NewReader(raw))
}

func (c Client) do(req *http.Request) ([]byte, http.Header, error) {
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(string(raw)))
	}
	return raw, res.Header, err
}
