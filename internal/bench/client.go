package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

// client speaks to the node's REST API before and after a load.
type client struct {
	http *http.Client
	base string
	auth string
}

func newClient(t Target) *client {
	return &client{http: newHTTP(workers), base: strings.TrimSuffix(t.URL, "/"), auth: "Bearer " + t.Key}
}

// newHTTP keeps n connections open. It uses no proxy, and leaves bodies alone.
func newHTTP(n int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConns: n, MaxIdleConnsPerHost: n, DisableCompression: true, ForceAttemptHTTP2: false,
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// webhook is what the API says of a webhook that it made.
type webhook struct {
	ID      string `json:"id"`
	Account string `json:"account_id"`
	Secret  string `json:"secret"`
}

func (c *client) createWebhook(ctx context.Context, account, name, url string, types []string) (w webhook, err error) {
	err = c.do(ctx, http.MethodPost, account+"/webhooks", map[string]any{"name": name, "url": url, "event_types": types}, &w)
	return w, err
}

func (c *client) createAccount(ctx context.Context, name string) (path string, err error) {
	var a struct {
		ID string `json:"id"`
	}
	err = c.do(ctx, http.MethodPost, "/v1/accounts", map[string]any{"name": name}, &a)
	return accountPath(a.ID), err
}

func (c *client) putEventType(ctx context.Context, name string) (path string, err error) {
	path = "/v1/event-types/" + name
	return path, c.do(ctx, http.MethodPut, path, map[string]any{"group": "fanfare bench"}, nil)
}

func accountPath(account string) string { return "/v1/accounts/" + url.PathEscape(account) }

// do makes one call, and decodes the answer into to, if that is not nil.
func (c *client) do(ctx context.Context, method, path string, body, to any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	status, answer, err := c.call(ctx, method, path, text)
	if err == nil && status/100 != 2 {
		err = errors.New(problem(status, answer))
	}
	if err == nil && to != nil {
		err = json.Unmarshal(answer, to)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (c *client) call(ctx context.Context, method, path string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Authorization", c.auth)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, answer, err
}

// problem is one line of an answer that was not the one hoped for.
func problem(status int, answer []byte) string {
	var p struct {
		Title, Detail string
		Errors        []struct{ Pointer, Detail string }
	}
	_ = json.Unmarshal(answer, &p) // another's error page: the status must do
	text := strconv.Itoa(status) + " " + http.StatusText(status)
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	for _, e := range p.Errors {
		text += "; " + e.Pointer + " " + e.Detail
	}
	return text
}

// workers is how many calls of a site's making are under way at once.
const workers = 16

// each calls f for 0 to n-1, workers at once, in no order, and returns the first error. After one it
// begins no more.
func each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var under sync.WaitGroup
	slots := make(chan struct{}, workers)
	for i := 0; i < n && ctx.Err() == nil; i++ {
		slots <- struct{}{}
		under.Go(func() {
			if err := f(ctx, i); err != nil {
				cancel(err)
			}
			<-slots
		})
	}
	under.Wait()
	return context.Cause(ctx)
}
