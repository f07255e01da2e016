package importer

import (
	"bytes"
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

// client asks a node's API.
type client struct {
	url, key string
	http     *http.Client
}

const (
	callTimeout = 30 * time.Second
	maxAnswer   = 32 << 20 // bytes
)

func newClient(url, key string) *client {
	return &client{strings.TrimSuffix(url, "/"), key, &http.Client{Timeout: callTimeout, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// problem is a refusal of what was asked (RFC 9457).
type problem struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Pointer string `json:"pointer"`
		Detail  string `json:"detail"`
	} `json:"errors"`
}

func (p *problem) Error() string {
	text := p.Title + ": " + p.Detail
	for _, e := range p.Errors {
		text += " " + e.Pointer + " " + e.Detail + "."
	}
	return text
}

// existing is a webhook that is there.
type existing struct {
	ID       string         `json:"id"`
	Version  int            `json:"version"`
	Enabled  bool           `json:"enabled"`
	Metadata map[string]any `json:"metadata"`
}

// imported lists the webhooks of an account that an import made, by what they were made of.
func (c *client) imported(ctx context.Context, account string) (map[string]existing, error) {
	all := make(map[string]existing)
	for cursor := ""; ; {
		var page struct {
			Data []existing `json:"data"`
			Next *string    `json:"next"`
		}
		if err := c.call(ctx, http.MethodGet, webhooksOf(account)+"?limit=200"+cursor, nil, &page); err != nil {
			return nil, err
		}
		for _, w := range page.Data {
			if from, ok := w.Metadata[marker].(string); ok {
				all[from] = w
			}
		}
		if page.Next == nil {
			return all, nil
		}
		cursor = "&after=" + url.QueryEscape(*page.Next)
	}
}

// create gives the id of the new webhook. The error is a [*problem] if the node refuses what is in it.
func (c *client) create(ctx context.Context, account string, w *webhook) (id string, err error) {
	var made existing
	err = c.call(ctx, http.MethodPost, webhooksOf(account), w, &made)
	return made.ID, err
}

func (c *client) disable(ctx context.Context, account, id, reason string) error {
	const most = 500 // characters
	if runes := []rune(reason); len(runes) > most {
		reason = string(runes[:most])
	}
	return c.call(ctx, http.MethodPost, webhooksOf(account)+"/"+id+"/disable", map[string]string{"reason": reason}, nil)
}

func webhooksOf(account string) string {
	return "/v1/accounts/" + url.PathEscape(account) + "/webhooks"
}

// call asks once. Of what the node refuses, 422 is a [*problem]: another webhook may fare better. Everything
// else would be the same for the next.
func (c *client) call(ctx context.Context, method, path string, body, answer any) error {
	var given io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		given = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, given)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	reply, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, maxAnswer))
	if err != nil {
		return err
	}
	if reply.StatusCode < 300 {
		if answer == nil {
			return nil
		}
		return json.Unmarshal(text, answer)
	}
	var p problem
	if json.Unmarshal(text, &p) != nil || p.Title == "" {
		return fmt.Errorf("%s answered %d, and not as Fanfare does", c.url, reply.StatusCode)
	}
	if reply.StatusCode == http.StatusUnprocessableEntity {
		return &p
	}
	return errors.New(p.Error())
}
