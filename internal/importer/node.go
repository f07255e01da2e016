package importer

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/fanfare-webhooks/fanfare/internal/client"
)

// node is the node that webhooks are made at.
type node struct{ *client.Client }

// existing is a webhook that is there.
type existing struct {
	ID       string         `json:"id"`
	Version  int            `json:"version"`
	Enabled  bool           `json:"enabled"`
	Metadata map[string]any `json:"metadata"`
}

// imported lists the webhooks of an account that an import made, by what they were made of.
func (n node) imported(ctx context.Context, account string) (map[string]existing, error) {
	all := make(map[string]existing)
	for cursor := ""; ; {
		var page struct {
			Data []existing `json:"data"`
			Next *string    `json:"next"`
		}
		if err := n.Call(ctx, http.MethodGet, webhooksOf(account)+"?limit=200"+cursor, nil, &page); err != nil {
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

// create gives the id of the new webhook. It is refused if the node does not take what is in it: another
// webhook may fare better. Every error would be the same for the next.
func (n node) create(ctx context.Context, account string, w *webhook) (id string, refused *client.Problem, err error) {
	var made existing
	err = n.Call(ctx, http.MethodPost, webhooksOf(account), w, &made)
	var p *client.Problem
	if errors.As(err, &p) && p.Status == http.StatusUnprocessableEntity && p.Detail != "" {
		return "", p, nil
	}
	return made.ID, nil, err
}

func (n node) disable(ctx context.Context, account, id, reason string) error {
	const most = 500 // characters
	if runes := []rune(reason); len(runes) > most {
		reason = string(runes[:most])
	}
	return n.Call(ctx, http.MethodPost, webhooksOf(account)+"/"+id+"/disable", map[string]string{"reason": reason}, nil)
}

func webhooksOf(account string) string { return client.AccountPath(account) + "/webhooks" }
