package mail

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"net/url"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/fanfare-webhooks/fanfare/retry"
)

// smtpTimeout bounds each step of a conversation with a mail server, unless its URL says otherwise.
const smtpTimeout = 10 * time.Second

// SMTP sends mails through a mail server.
type SMTP struct {
	host    string
	options []mail.Option
	from    string
}

// NewSMTP reads where the server is: smtp://[user:password@]host[:port], with STARTTLS, or smtps:// with TLS
// from the start. smtp://…?tls=opportunistic goes on without TLS at a server that has none, ?tls=none always; ?timeout=30s
// bounds each step. from is an address, with a name or without. An error quotes no password.
func NewSMTP(where, from string) (*SMTP, error) {
	u, err := url.Parse(where)
	if err != nil || u.Host == "" || u.Hostname() == "" || (u.Scheme != "smtp" && u.Scheme != "smtps") {
		return nil, errors.New("not of the form smtp://user:password@host:587 or smtps://…")
	}
	if _, err := netmail.ParseAddress(from); err != nil {
		return nil, errors.New("the sender is not a mail address")
	}
	s := &SMTP{host: u.Hostname(), from: from, options: []mail.Option{mail.WithoutSMTPUTF8()}}
	timeout := smtpTimeout
	if text := u.Query().Get("timeout"); text != "" {
		if timeout, err = retry.ParseDuration(text); err != nil || timeout <= 0 || timeout > time.Minute {
			return nil, errors.New("timeout is from 1ms to 1m")
		}
	}
	s.options = append(s.options, mail.WithTimeout(timeout))
	port := 587
	switch policy := u.Query().Get("tls"); {
	case u.Scheme == "smtps" && policy == "":
		port = 465
		s.options = append(s.options, mail.WithSSL())
	case policy == "" || policy == "mandatory":
		s.options = append(s.options, mail.WithTLSPolicy(mail.TLSMandatory))
	case policy == "opportunistic":
		s.options = append(s.options, mail.WithTLSPolicy(mail.TLSOpportunistic))
	case policy == "none" && u.Scheme == "smtp":
		s.options = append(s.options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		return nil, errors.New("tls is one of mandatory, opportunistic and none")
	}
	if text := u.Port(); text != "" {
		if port, err = strconv.Atoi(text); err != nil || port < 1 || port > 65535 {
			return nil, errors.New("the port is not one")
		}
	}
	s.options = append(s.options, mail.WithPort(port))
	if u.User != nil {
		password, _ := u.User.Password()
		s.options = append(s.options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
	}
	return s, nil
}

// Send sends all messages over one connection.
func (s *SMTP) Send(ctx context.Context, messages []Message) []error {
	errs := make([]error, len(messages))
	fail := func(from int, err error) []error {
		for i := range errs[from:] {
			errs[from+i] = err
		}
		return errs
	}
	c, err := mail.NewClient(s.host, s.options...)
	if err != nil {
		return fail(0, fmt.Errorf("prepare mail: %w", err))
	}
	if err := c.DialWithContext(ctx); err != nil {
		return fail(0, fmt.Errorf("reach the mail server: %w", err))
	}
	defer func() { _ = c.Close() }()
	for i := range messages {
		if err := ctx.Err(); err != nil {
			return fail(i, err)
		}
		var goesOn bool
		if errs[i], goesOn = s.send(c, messages[i]); !goesOn {
			return fail(i, errs[i])
		}
	}
	return errs
}

// send sends one message, and says whether the connection can take another.
func (s *SMTP) send(c *mail.Client, m Message) (failed error, goesOn bool) {
	msg, err := s.compose(&m)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err), true
	}
	err = c.Send(msg)
	var refused *mail.SendError
	switch {
	case err == nil:
		return nil, true
	case !errors.As(err, &refused) || refused.ErrorCode() < 400:
		return err, false
	case refused.ErrorCode() < 500: // not now
		return err, true
	}
	err = fmt.Errorf("%w: %w", ErrRefused, err)
	if len(m.To) == 1 {
		return err, true
	}
	// One address that is refused must not keep the mail from the others.
	for _, to := range m.To {
		alone := m
		alone.To = []string{to}
		one, goesOn := s.send(c, alone)
		if one == nil {
			err = nil
		}
		if !goesOn {
			return err, false
		}
	}
	return err, true
}

func (s *SMTP) compose(m *Message) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := msg.From(s.from); err != nil {
		return nil, err
	}
	if err := msg.To(m.To...); err != nil {
		return nil, err
	}
	msg.Subject(m.Subject)
	msg.SetMessageIDWithValue(m.ID)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's holiday answers it
	msg.SetDate()
	msg.SetBodyString(mail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(mail.TypeTextHTML, m.HTML)
	return msg, nil
}

// Domain is the part of an address after the @, for Message-IDs.
func Domain(from string) string {
	a, err := netmail.ParseAddress(from)
	if err != nil {
		return "localhost"
	}
	for i := len(a.Address) - 1; i >= 0; i-- {
		if a.Address[i] == '@' {
			return a.Address[i+1:]
		}
	}
	return "localhost"
}
