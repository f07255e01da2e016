package listen

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

// Problem is what the API refuses a call with.
type Problem struct {
	Status int
	Code   string
	Detail string
	Errors []struct{ Pointer, Parameter, Detail string }
	Oldest string // a cursor, of cursor_expired
	Latest string // a cursor, of cursor_ahead
}

func (p *Problem) Error() string {
	text := fmt.Sprintf("%d %s", p.Status, p.Detail)
	for _, e := range p.Errors {
		text += fmt.Sprintf(" %s %s.", cmp.Or(e.Pointer, e.Parameter, "The body"), e.Detail)
	}
	return text
}

// final says that time does not heal it.
func (p *Problem) final() bool {
	return p.Status >= 400 && p.Status < 500 && p.Status != http.StatusTooManyRequests && p.Status != http.StatusRequestTimeout
}

// client speaks to the API.
type client struct {
	http    *http.Client
	base    string
	account string // the path of the account
	key     string
}

func newClient(t Target) client {
	return client{
		// Longer than the server makes anybody wait.
		http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}},
		base: strings.TrimSuffix(t.URL, "/"), account: "/v1/accounts/" + url.PathEscape(cmp.Or(t.Account, "me")), key: t.Key,
	}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// maxAnswer is above the largest page of events.
const maxAnswer = 16 << 20

// call makes one call. The error is a [*Problem] if the API refused it.
func (c *client) call(ctx context.Context, method, path string, body []byte, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(r)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return fmt.Errorf("%s cannot be reached: %w", c.base, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the answer of %s broke off: %w", c.base, err)
	}
	if resp.StatusCode/100 != 2 {
		p := &Problem{Detail: http.StatusText(resp.StatusCode)}
		_ = json.Unmarshal(text, p) // what is in between may answer something else
		p.Status = resp.StatusCode
		return p
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s does not answer as Fanfare does: %w", c.base, err)
	}
	return nil
}
