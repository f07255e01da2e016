package app

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/fanfare-webhooks/fanfare/api"
	"github.com/fanfare-webhooks/fanfare/internal/mail"
	"github.com/fanfare-webhooks/fanfare/internal/outbox"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// pages puts what people look at beside the API.
func pages(c *Config, handler, enable http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, api.EnablePath):
			enable.ServeHTTP(w, r)
		case c.keptMails != nil && r.URL.Path == "/dev/mail":
			c.keptMails.ServeHTTP(w, r)
		default:
			handler.ServeHTTP(w, r)
		}
	})
}

// mailTerm is for how long mails are a node's that it takes from the outbox: a mail server that is slow must not make
// another node send them again.
const mailTerm = 5 * time.Minute

// startMail hands over what the outbox owes by mail; without a server for it, nothing is owed. The public listener is
// open.
func (a *App) startMail(c *Config, s *store.Store) {
	handle := func(_ context.Context, rows []store.OutboxRow) []error { return make([]error, len(rows)) }
	switch {
	case c.sender == nil:
		a.log.Info("nobody is mailed: FANFARE_SMTP_URL is not set")
	default:
		o := mail.Options{Source: s, Sender: c.sender, Templates: c.mails, Domain: mail.Domain(c.MailFrom), Log: a.log}
		switch {
		case c.PublicURL != "":
			o.Link = api.EnableLink(c.keyring, c.PublicURL)
		case c.keptMails != nil:
			o.Link = api.EnableLink(c.keyring, "http://"+dialable(a.PublicAddr))
		}
		handle = mail.Handle(o)
	}
	a.background("mail", outbox.New(s, store.OutboxMail, handle, outbox.Options{Term: mailTerm, Log: a.log}).Run)
}
