package bench

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
	"strconv"
	"strings"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// client speaks to the node's REST API before and after a load.
type client struct {
	http      *http.Client
	base      string // of the account
	auth      string
	eventType string // of everything
}

func newClient(t Target, eventType string) *client {
	return &client{
		http: newHTTP(maxInFlight),
		base: strings.TrimSuffix(t.URL, "/") + t.accountPath(),
		auth: "Bearer " + t.Key, eventType: eventType,
	}
}

func (t *Target) accountPath() string {
	return "/v1/accounts/" + url.PathEscape(cmp.Or(t.Account, "me"))
}

// newHTTP keeps n connections open. It uses no proxy, and leaves bodies alone.
func newHTTP(n int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConns: n, MaxIdleConnsPerHost: n, DisableCompression: true, ForceAttemptHTTP2: false,
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// createWebhooks makes a webhook for each receiver and hands it the secret. It returns the ids of those
// that it made, also with an error.
func (c *client) createWebhooks(ctx context.Context, in *receivers) (ids []string, err error) {
	for i, url := range in.urls {
		body, err := json.Marshal(map[string]any{
			"name": fmt.Sprintf("fanfare bench %d", i), "url": url, "event_types": []string{c.eventType},
		})
		if err != nil {
			return ids, err
		}
		var hook struct {
			ID      string `json:"id"`
			Account string `json:"account_id"`
			Secret  string `json:"secret"`
		}
		status, answer, err := c.call(ctx, http.MethodPost, "/webhooks", body)
		if err != nil {
			return ids, fmt.Errorf("create a webhook: %w", err)
		}
		if status != http.StatusCreated {
			return ids, fmt.Errorf("create a webhook: %s", problem(status, answer))
		}
		if err := json.Unmarshal(answer, &hook); err != nil {
			return ids, fmt.Errorf("create a webhook: %w", err)
		}
		ids = append(ids, hook.ID)
		secret, err := signature.ParseSecret(hook.Secret)
		if err != nil {
			return ids, fmt.Errorf("create a webhook: %w", err)
		}
		in.secrets[i].Store(&secret)
		in.account.Store(&hook.Account)
	}
	return ids, nil
}

// deleteWebhooks takes back what createWebhooks made, as far as the node lets it.
func (c *client) deleteWebhooks(ctx context.Context, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, id := range ids {
		status, answer, err := c.call(ctx, http.MethodDelete, "/webhooks/"+url.PathEscape(id), nil)
		if err == nil && status != http.StatusNoContent {
			err = errors.New(problem(status, answer))
		}
		if err != nil {
			return fmt.Errorf("delete webhook %s: %w", id, err)
		}
	}
	return nil
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

// call makes one request below the account.
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
	answer, err = io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, answer, err
}
