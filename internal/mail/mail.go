// Package mail tells owners by mail what became of their webhooks.
//
// It hides SMTP, templates and what an operator may put in their place, who is told, and which mails are
// worth another try. Rows of the outbox become mails; a mail that may have gone out twice has the same
// Message-ID both times.
package mail

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/outbox"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
)

// Message is a mail that is ready to go out.
type Message struct {
	ID      string // of RFC 5322, section 3.6.4, without angle brackets: the same whenever it is sent
	To      []string
	Subject string // one line
	Text    string
	HTML    string
}

// ErrRefused says that a mail will be refused whenever it is sent.
var ErrRefused = errors.New("the mail was refused for good")

// Sender hands mails over. Its answer is parallel to messages: nil for one that was taken, an error that wraps
// [ErrRefused] for one that is not worth another try. A mail whose outcome is unknown was not taken.
type Sender interface {
	Send(ctx context.Context, messages []Message) []error
}

// Source knows whom a mail is for: a [store.Store].
type Source interface {
	// MailTo reads a webhook, the name of its account, and who is mailed about it: the error is
	// [store.ErrNotFound] for one that was deleted.
	MailTo(ctx context.Context, account, webhook uuid.UUID) (*store.MailTo, error)
}

// Options of a mailer. Source, Sender and Templates are required.
type Options struct {
	Source    Source
	Sender    Sender
	Templates *Templates
	Domain    string // of Message-IDs
	// Link makes the address under which a webhook that was disabled at some time is enabled again; "": there
	// is none. Nil: there never is.
	Link func(w *fanfare.Webhook) string
	Log  *slog.Logger
}

// maxAge is for how long a mail is tried: what it says is no news after that.
const maxAge = 48 * time.Hour

type mailer struct{ Options }

// Handle makes mails of rows of the outbox. Who has nobody to be mailed to is passed over, and so is a webhook
// that was deleted.
func Handle(o Options) outbox.Handle {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m := mailer{o}
	return m.handle
}

func (m *mailer) handle(ctx context.Context, rows []store.OutboxRow) []error {
	errs := make([]error, len(rows))
	var messages []Message
	var of []int // rows, by message
	for i := range rows {
		msg, err := m.message(ctx, &rows[i])
		switch {
		case err != nil:
			errs[i] = err
		case len(msg.To) > 0:
			messages, of = append(messages, msg), append(of, i)
		}
	}
	if len(messages) == 0 {
		return errs
	}
	for n, err := range m.Sender.Send(ctx, messages) {
		r := &rows[of[n]]
		switch {
		case err == nil:
			m.Log.Info("mail sent", "kind", r.Name, "account", r.AccountID, "id", r.ID)
		case errors.Is(err, ErrRefused) || time.Since(r.CreatedAt) > maxAge:
			m.Log.Warn("a mail is given up", "kind", r.Name, "account", r.AccountID, "id", r.ID, "error", err)
		default:
			errs[of[n]] = err
		}
	}
	return errs
}

// message is the mail of a row; it is to nobody if none is wanted.
func (m *mailer) message(ctx context.Context, r *store.OutboxRow) (Message, error) {
	body, err := store.ParseMailBody(r.Body)
	if err != nil {
		return m.drop(r, err)
	}
	to, err := m.Source.MailTo(ctx, r.AccountID, body.WebhookID)
	if errors.Is(err, store.ErrNotFound) {
		return Message{}, nil
	}
	if err != nil || len(to.Emails) == 0 {
		return Message{}, err
	}
	facts, err := m.facts(to, &body)
	if err != nil {
		return m.drop(r, err)
	}
	msg, err := m.Templates.render(store.MailKind(r.Name), facts)
	if err != nil {
		return m.drop(r, err)
	}
	msg.ID, msg.To = r.ID.String()+"@"+m.Domain, to.Emails
	return msg, nil
}

// drop passes over a row of which no mail can be made.
func (m *mailer) drop(r *store.OutboxRow, err error) (Message, error) {
	m.Log.Error("no mail can be made of a row of the outbox", "kind", r.Name, "account", r.AccountID, "id", r.ID, "error", err)
	return Message{}, nil
}

func (m *mailer) facts(to *store.MailTo, body *store.MailBody) (*Facts, error) {
	f := &Facts{
		Webhook: WebhookFacts{ID: to.Webhook.ID.String(), Name: oneLine(to.Webhook.Name), URL: bareURL(to.Webhook.URL)},
		Account: AccountFacts{ID: to.Webhook.AccountID.String(), Name: oneLine(to.Account)},
		At:      body.At.UTC(), By: body.By, Count: body.Count, Since: body.Since.UTC(),
	}
	if f.Webhook.Name == "" {
		f.Webhook.Name = f.Webhook.URL
	}
	if len(body.Evidence) > 0 {
		e, err := retry.ParseEvidence(body.Evidence)
		if err != nil {
			return nil, err
		}
		f.judged(&e)
	}
	if d := to.Webhook.Disabled; d != nil && d.By != fanfare.DisabledByUser && m.Link != nil {
		f.Link = m.Link(to.Webhook)
	}
	return f, nil
}

// bareURL leaves a query out: tokens are kept there.
func bareURL(text string) string {
	bare, _, cut := strings.Cut(text, "?")
	if cut {
		bare += "?…"
	}
	return bare
}
