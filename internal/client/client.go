// Package client calls a node's REST API, for the commands that are its clients.
//
// It hides how a call is made and what it may cost; what of an answer is the API's and what is somebody
// else's, in between or at a wrong URL; and where the `fanfare dev` of this machine says how it is reached.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Target is an account at a node, and a key for it.
type Target struct {
	URL     string // of the API, without /v1
	Key     string
	Account string // an id; "" or "me": the key's own
}

// Client calls one node. It may be used by several goroutines.
type Client struct {
	http *http.Client
	base string
	auth string
}

const (
	callTimeout = time.Minute // longer than the API makes anybody wait
	maxAnswer   = 32 << 20    // bytes; above the largest page
)

// New makes a client, which its user closes. It calls nobody: the error is a URL or a key that cannot be one.
func New(t Target) (*Client, error) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is no URL of a server, such as https://fanfare.example.com", t.URL)
	}
	if strings.ContainsFunc(t.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the key has a space or another character in it that no key has")
	}
	return &Client{
		http: &http.Client{Timeout: callTimeout, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}},
		base: strings.TrimSuffix(t.URL, "/"), auth: "Bearer " + t.Key,
	}, nil
}

// Close closes the connections that no call uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// AccountPath is the path of an account in the API; "" is the key's own.
func AccountPath(account string) string {
	return "/v1/accounts/" + url.PathEscape(cmp.Or(account, "me"))
}

// Call makes one call of a path with its query. A body that is a []byte is JSON already and is sent as it
// is, nil is none, and anything else is encoded. The answer is decoded into answer, unless that is nil.
// The error is or wraps a [*Problem] if anything but success was answered, and the context's if that ended.
func (c *Client) Call(ctx context.Context, method, path string, body, answer any) error {
	text, err := encode(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", c.auth)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	status, text, err := c.do(r)
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case status/100 != 2:
		return c.problem(status, text)
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return c.foreign(err)
	}
	return nil
}

func encode(body any) ([]byte, error) {
	switch b := body.(type) {
	case nil:
		return nil, nil
	case []byte:
		return b, nil
	}
	return json.Marshal(body)
}

func (c *Client) do(r *http.Request) (status int, text []byte, err error) {
	resp, err := c.http.Do(r)
	if err != nil {
		var failed *url.Error // says the whole URL, which the caller does not know
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return 0, nil, fmt.Errorf("%s cannot be reached: %w", c.base, err)
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, fmt.Errorf("the answer of %s broke off: %w", c.base, err)
	}
	if len(text) > maxAnswer {
		return 0, nil, fmt.Errorf("%s answers with more than %d MiB", c.base, maxAnswer>>20)
	}
	return resp.StatusCode, text, nil
}

// foreign is about an answer that is none of the API's.
func (c *Client) foreign(err error) error {
	return fmt.Errorf("%s does not answer as Fanfare does: %w", c.base, err)
}
