package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	answerPatience = 30 * time.Second // for the first byte of an answer
	stallPatience  = 30 * time.Second // for more of it
)

// download saves one file of a Maven repository, checked.
type download struct {
	client *http.Client
	log    *slog.Logger
	what   string // begins the lines of the log
}

func newDownload(log *slog.Logger, what string) *download {
	transport := http.DefaultTransport.(*http.Transport).Clone() // it knows proxies
	transport.ResponseHeaderTimeout = answerPatience
	return &download{&http.Client{Transport: transport}, log, what}
}

func (d *download) close() { d.client.CloseIdleConnections() }

// save writes what is at a URL to a file, and compares its SHA-256 with the one
// that the repository has beside it.
func (d *download) save(ctx context.Context, at *url.URL, file string) error {
	sum, err := d.sum(ctx, at)
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	hash := sha256.New()
	err = d.get(ctx, at, func(body io.Reader, size int64) error {
		_, err := io.Copy(io.MultiWriter(f, hash), &progress{Reader: body, d: d, size: size, told: time.Now()})
		return err
	})
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return fmt.Errorf("%s has the SHA-256 %s, but the repository says %s: it was damaged or changed on its way: try again", at.Redacted(), got, sum)
	}
	return nil
}

// sum is the file's SHA-256 in hexadecimal. Some repositories write the file's
// name behind it.
func (d *download) sum(ctx context.Context, at *url.URL) (string, error) {
	beside := *at
	beside.Path += ".sha256"
	var text []byte
	err := d.get(ctx, &beside, func(body io.Reader, _ int64) (err error) {
		text, err = io.ReadAll(io.LimitReader(body, 4096))
		return err
	})
	if err != nil {
		return "", err
	}
	words := strings.Fields(strings.ToLower(string(text)))
	if len(words) == 0 {
		words = []string{""}
	}
	if sum, err := hex.DecodeString(words[0]); err != nil || len(sum) != sha256.Size {
		return "", fmt.Errorf("%s is no SHA-256", beside.Redacted())
	}
	return words[0], nil
}

// get hands a URL's body to read, with its size or -1. It gives up when nothing
// comes any more.
func (d *download) get(ctx context.Context, at *url.URL, read func(body io.Reader, size int64) error) error {
	stalled, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	request, err := http.NewRequestWithContext(stalled, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	answer, err := d.client.Do(request)
	if err != nil {
		return unanswered(at, err)
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("the repository does not have it: %s: 404 Not Found", at.Redacted())
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("the repository answers %s to %s", answer.Status, at.Redacted())
	}
	timer := time.AfterFunc(stallPatience, func() { cancel(errStalled) })
	defer timer.Stop()
	body := &counted{Reader: answer.Body, more: func() { timer.Reset(stallPatience) }}
	if err = read(body, answer.ContentLength); err == nil || body.err == nil {
		return err
	}
	if cause := context.Cause(stalled); cause != nil {
		body.err = cause
	}
	return cutShort(at, body, answer.ContentLength)
}

var errStalled = fmt.Errorf("nothing came for %v", stallPatience)

// unanswered tells a missing network from other reasons.
func unanswered(at *url.URL, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // it repeats the URL
	}
	var dial *net.OpError
	var name *net.DNSError
	if errors.As(err, &name) || errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("there is no network, or no way to %s: %w", at.Host, err)
	}
	return fmt.Errorf("%s: %w", at.Redacted(), err)
}

func cutShort(at *url.URL, body *counted, size int64) error {
	came := megabytes(body.n)
	if size > 0 {
		came += " of " + megabytes(size)
	}
	return fmt.Errorf("%s broke off after %s MB: %w: try again", at.Redacted(), came, body.err)
}

// counted counts what comes, and keeps the error that ended it.
type counted struct {
	io.Reader
	n    int64
	err  error
	more func()
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if n > 0 {
		c.n += int64(n)
		c.more()
	}
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// progress logs how far a download is: after each tenth, and on a slow line
// more often.
type progress struct {
	io.Reader
	d             *download
	size, n, last int64
	told          time.Time
}

const (
	progressStep  = 5 << 20 // bytes, where the size is unknown
	progressPause = 5 * time.Second
)

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.n += int64(n)
	step := int64(progressStep)
	if p.size > 0 {
		step = max(p.size/10, 1<<20)
	}
	if p.n-p.last >= step || n > 0 && time.Since(p.told) > progressPause || err == io.EOF && p.n > p.last {
		p.tell()
	}
	return n, err
}

func (p *progress) tell() {
	p.last, p.told = p.n, time.Now()
	line := p.d.what + ": " + megabytes(p.n)
	if p.size > 0 {
		line += " of " + megabytes(p.size)
	}
	p.d.log.Info(line + " MB")
}

// megabytes rounds up: a small file is not 0.
func megabytes(n int64) string { return fmt.Sprint((n + 1<<20 - 1) >> 20) }
