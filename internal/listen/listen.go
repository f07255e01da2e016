// Package listen brings an account's events to a server on this machine, for development without a tunnel:
// it follows the events through the API and posts each as Fanfare would, signed.
//
// It hides that a server which is away or starts anew costs no event; where a signing secret comes from that
// stays the same; and what is published by those who only want to see something arrive.
package listen

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/client"
	"github.com/fanfare-webhooks/fanfare/internal/shape"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// Options say what is listened to, and where it goes.
type Options struct {
	client.Target
	Forward     string            // the URL that events are posted to
	Types       []string          // names, "prefix.*" or "*"; empty: all
	Descendants bool              // also events of accounts below
	Since       string            // a cursor, an event's id or "oldest"; "": what happens from now on
	Secret      *signature.Secret // nil: see [SecretOf]
	Timeout     time.Duration     // of a request to Forward; 0: 30 s
	Out         io.Writer         // a line an event, and what else happens
}

// SecretOf is the secret that signs for a key if no other is given: always the same for one key.
func SecretOf(key string) signature.Secret {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("fanfare listen"))
	return signature.SecretFromBytes(mac.Sum(nil))
}

// How a server is waited for that is away.
const (
	firstPause = 500 * time.Millisecond
	mostPause  = 10 * time.Second
)

// listener is a run of [Run].
type listener struct {
	Options
	client *client.Client
	http   *http.Client // to Forward
	secret signature.Secret
	cursor string // "": from the oldest
	pause  time.Duration
}

// Run follows and forwards until ctx ends, which is no error. A server that is away is waited for; what
// time does not heal, such as a wrong key, ends it.
func Run(ctx context.Context, o Options) error {
	u, err := url.Parse(o.Forward)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is no URL to forward to, such as http://localhost:3000/hook", o.Forward)
	}
	c, err := client.New(o.Target)
	if err != nil {
		return err
	}
	l := &listener{
		Options: o, client: c, secret: SecretOf(o.Key), cursor: cmp.Or(o.Since, "latest"),
		http: &http.Client{
			Timeout:       cmp.Or(o.Timeout, 30*time.Second),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 1},
		},
	}
	defer l.client.Close()
	defer l.http.CloseIdleConnections()
	if l.cursor == "oldest" {
		l.cursor = ""
	}
	if o.Secret != nil {
		l.secret = *o.Secret
	}
	l.say("Events go to %s, signed with %s", o.Forward, l.secret.Text())
	for begun := false; ctx.Err() == nil; {
		err := l.next(ctx)
		var p *client.Problem
		switch {
		case ctx.Err() != nil:
		case err == nil:
			if !begun || l.pause > 0 {
				l.say("Listening to %s. Ctrl-C ends it.", o.URL)
			}
			begun, l.pause = true, 0
		case errors.As(err, &p) && p.Code == "cursor_expired":
			l.say("Older events are not kept any more: going on with the oldest.")
			l.cursor = p.Oldest
		case errors.As(err, &p) && p.Code == "cursor_ahead":
			l.say("The server's log is shorter than it was: going on at its end.")
			l.cursor = p.Latest
		case errors.As(err, &p) && final(p.Status):
			return err
		default:
			if l.pause == 0 {
				l.say("%v. Trying again …", err)
			}
			l.pause = min(max(2*l.pause, firstPause), mostPause)
			wait(ctx, l.pause)
		}
	}
	if l.cursor != "" && l.cursor != "latest" {
		l.say("To go on from here: --since %s", l.cursor)
	}
	return nil
}

// final says that time does not heal an answer.
func final(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (l *listener) say(format string, args ...any) { fmt.Fprintf(l.Out, format+"\n", args...) }

// page is an answer of the synchronisation.
type page struct {
	Data   []event `json:"data"`
	Cursor string  `json:"cursor"`
}

type event struct {
	ID         uuid.UUID       `json:"id"`
	AccountID  uuid.UUID       `json:"account_id"`
	Type       string          `json:"type"`
	Data       json.RawMessage `json:"data"` // its bytes are those that were published
	OccurredAt *time.Time      `json:"occurred_at"`
}

// next forwards the next page, and moves the cursor behind each event that it has forwarded.
func (l *listener) next(ctx context.Context) error {
	q := url.Values{"wait": {"30s"}}
	if l.cursor != "" {
		q.Set("since", l.cursor)
	}
	if len(l.Types) > 0 {
		q.Set("types", strings.Join(l.Types, ","))
	}
	if l.Descendants {
		q.Set("descendants", "true")
	}
	var p page
	if err := l.client.Call(ctx, http.MethodGet, client.AccountPath(l.Account)+"/events/sync?"+q.Encode(), nil, &p); err != nil {
		return err
	}
	for i := range p.Data {
		if l.forward(ctx, &p.Data[i]); ctx.Err() != nil {
			return nil // the event that was interrupted comes again
		}
		l.cursor = p.Data[i].ID.String()
	}
	l.cursor = p.Cursor
	return nil
}

// forward posts one event once and says what came back.
func (l *listener) forward(ctx context.Context, e *event) {
	whole := fanfare.Event{ID: e.ID, AccountID: e.AccountID, Type: e.Type, Data: e.Data}
	if e.OccurredAt != nil {
		whole.OccurredAt = *e.OccurredAt
	}
	var envelope *shape.Shape
	body, err := envelope.Write(&whole)
	var r *http.Request
	if err == nil {
		r, err = http.NewRequestWithContext(ctx, http.MethodPost, l.Forward, bytes.NewReader(body))
	}
	if err != nil {
		l.say("%s  %s  %s  cannot be sent: %v", clock(time.Now()), e.Type, e.ID, err)
		return
	}
	began := time.Now()
	r.Header.Set("Content-Type", envelope.ContentType())
	r.Header.Set("User-Agent", "Fanfare/listen")
	signature.SetHeaders(r.Header, e.ID.String(), began, body, l.secret)
	r.Header.Set("X-Fanfare-Account-Id", e.AccountID.String())
	r.Header.Set("X-Fanfare-Event-Type", e.Type)
	r.Header.Set("X-Fanfare-Attempt", "1")
	result := l.post(r)
	if ctx.Err() == nil {
		l.say("%s  %s  %s  → %s  (%s)", clock(began), e.Type, e.ID, result, time.Since(began).Round(time.Millisecond))
	}
}

func clock(t time.Time) string { return t.Format("15:04:05") }

// shown is how much of a reply is printed.
const shown = 300

// post is the status that came back, and if that is no success what was said with it.
func (l *listener) post(r *http.Request) string {
	resp, err := l.http.Do(r)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, shown)) // as much as came
	status := resp.Status
	if text := printable(body); resp.StatusCode/100 != 2 && text != "" {
		status += ": " + text
	}
	return printable([]byte(status))
}

// printable is a text on one line that a terminal cannot be misled by.
func printable(b []byte) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, string(b))), " ")
}
