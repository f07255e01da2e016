package api

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// EnablePath is below which the links of mails are.
const EnablePath = "/enable/"

// linkLife is for how long a link is good.
const linkLife = 7 * 24 * time.Hour

// linkColumn is the place under which a link is sealed: the time of the disabling in microseconds and the end of
// the link's life in seconds, each in 8 bytes.
const linkColumn = "enable_link"

const (
	linkIDs    = 2 * 16 // account and webhook, which name the place
	linkSealed = 2 * 8
)

// EnableLink makes links that enable a webhook that the service has disabled. A link is good for that one
// disabling: once the webhook was enabled, however, it is used up.
func EnableLink(k *seal.Keyring, publicURL string) func(*fanfare.Webhook) string {
	return func(w *fanfare.Webhook) string {
		if w.Disabled == nil {
			return ""
		}
		return strings.TrimSuffix(publicURL, "/") + linkPath(k, w, time.Now())
	}
}

// linkPath is the path of a link that is made at now.
func linkPath(k *seal.Keyring, w *fanfare.Webhook, now time.Time) string {
	var what [linkSealed]byte
	binary.BigEndian.PutUint64(what[:8], uint64(w.Disabled.At.UnixMicro()))
	binary.BigEndian.PutUint64(what[8:], uint64(now.Add(linkLife).Unix()))
	token := slices.Concat(w.AccountID[:], w.ID[:], k.Seal(linkPlace(w.AccountID, w.ID), what[:]))
	return EnablePath + base64.RawURLEncoding.EncodeToString(token)
}

func linkPlace(account, webhook uuid.UUID) seal.Place {
	return seal.Place{Account: account, Object: webhook, Column: linkColumn}
}

// enablePage is what links lead to.
type enablePage struct {
	store   *store.Store
	keyring *seal.Keyring
	log     *slog.Logger
}

// EnablePage answers below [EnablePath]. A GET shows what would be done, and changes nothing: mail programs follow
// links by themselves. A POST does it.
func EnablePage(s *store.Store, k *seal.Keyring, log *slog.Logger) http.Handler {
	return &enablePage{s, k, log}
}

//go:embed enablelink.html
var enableHTML string

var enableTemplate = template.Must(template.New("").Parse(enableHTML))

// enableView is what the page shows: Title and Text, or the question for Webhook.
type enableView struct {
	Title, Text string
	Webhook     *fanfare.Webhook
}

func (p *enablePage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		h.Set("Allow", "GET, HEAD, POST")
		p.show(w, http.StatusMethodNotAllowed, enableView{Title: "Not like this", Text: "This page is read, or its button is pressed."})
		return
	}
	status, view := p.answer(r)
	p.show(w, status, view)
}

func (p *enablePage) show(w http.ResponseWriter, status int, view enableView) {
	var b bytes.Buffer
	if err := enableTemplate.Execute(&b, view); err != nil {
		p.log.Error("a page could not be made", "error", err)
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

var (
	viewUnknown = enableView{Title: "This link is not known", Text: "It may have been cut off by a mail program: copy all of it."}
	viewUsed    = enableView{Title: "This link was used", Text: "The webhook is enabled, or was enabled since the mail was written. There is nothing to do."}
	viewExpired = enableView{Title: "This link is too old", Text: "It was good for seven days. Enable the webhook where you manage it."}
	viewBusy    = enableView{Title: "Not now", Text: "This cannot be answered at the moment. Try again in a minute."}
	viewDone    = enableView{Title: "The webhook is enabled", Text: "New events are sent to it from now on."}
)

func (p *enablePage) answer(r *http.Request) (int, enableView) {
	account, webhook, at, expires, ok := p.open(strings.TrimPrefix(r.URL.Path, EnablePath))
	if !ok {
		return http.StatusNotFound, viewUnknown
	}
	if time.Now().After(expires) {
		return http.StatusGone, viewExpired
	}
	// Nobody else's disabling, and no later one, is undone.
	meant := func(w *fanfare.Webhook) bool {
		return w.Disabled != nil && w.Disabled.At.Equal(at)
	}
	hook, err := p.store.Webhook(r.Context(), account, webhook)
	if err == nil && !meant(hook) {
		return http.StatusGone, viewUsed
	}
	if err == nil && r.Method == http.MethodPost {
		_, err = p.store.UpdateWebhook(r.Context(), account, webhook, 0, nil, func(w *fanfare.Webhook) error {
			if !meant(w) {
				return errUnchanged
			}
			w.Disabled = nil
			return nil
		})
		if err == nil {
			p.log.Info("webhook enabled by the link of a mail", "webhook", webhook, "account", account)
			return http.StatusOK, viewDone
		}
	}
	switch {
	case err == nil:
		return http.StatusOK, enableView{Webhook: hook}
	case errors.Is(err, errUnchanged):
		return http.StatusGone, viewUsed
	case errors.Is(err, store.ErrNotFound):
		return http.StatusNotFound, viewUnknown
	}
	p.log.Warn("a link could not be answered", "error", err)
	return http.StatusServiceUnavailable, viewBusy
}

// open reads a link.
func (p *enablePage) open(text string) (account, webhook uuid.UUID, at, expires time.Time, ok bool) {
	token, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(token) < linkIDs {
		return
	}
	copy(account[:], token)
	copy(webhook[:], token[16:])
	what, err := p.keyring.Open(linkPlace(account, webhook), token[linkIDs:])
	if err != nil || len(what) != linkSealed {
		return
	}
	at = time.UnixMicro(int64(binary.BigEndian.Uint64(what)))
	return account, webhook, at, time.Unix(int64(binary.BigEndian.Uint64(what[8:])), 0), true
}
