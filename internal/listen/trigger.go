package listen

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/fanfare-webhooks/fanfare/internal/client"
)

// Receipt is what a publish was answered.
type Receipt struct {
	ID      string
	Matched int // webhooks of the account
}

// Trigger publishes an event of a type. Without data it is the first sample that the catalog has of the type,
// or an empty object if it has none.
func Trigger(ctx context.Context, t client.Target, eventType string, data []byte) (*Receipt, error) {
	c, err := client.New(t)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if data == nil {
		var samples struct{ Data []json.RawMessage }
		if err := c.Call(ctx, http.MethodGet, "/v1/event-types/"+url.PathEscape(eventType)+"/samples", nil, &samples); err != nil {
			return nil, fmt.Errorf("no sample of %s: %w", eventType, err)
		}
		data = []byte("{}")
		if len(samples.Data) > 0 {
			data = samples.Data[0]
		}
	}
	name, err := json.Marshal(eventType)
	if err != nil {
		return nil, err
	}
	var r Receipt
	body := fmt.Appendf(nil, `{"type":%s,"data":%s}`, name, data) // data's bytes stay as they are
	if err := c.Call(ctx, http.MethodPost, client.AccountPath(t.Account)+"/events", body, &r); err != nil {
		return nil, fmt.Errorf("publish %s: %w", eventType, err)
	}
	return &r, nil
}
