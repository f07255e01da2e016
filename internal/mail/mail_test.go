package mail_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net"
	netmail "net/mail"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/mail"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
)

// certificate is one for loopback that this process trusts.
var certificate tls.Certificate

func TestMain(m *testing.M) {
	file, err := makeCertificate()
	if err == nil {
		err = os.Setenv("SSL_CERT_FILE", file)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.Remove(file)
		os.Exit(code)
	}))
}

func makeCertificate() (file string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		return "", err
	}
	certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	f, err := os.CreateTemp("", "mail-test-*.pem")
	if err != nil {
		return "", err
	}
	defer f.Close()
	return f.Name(), pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// server is a mail server on loopback.
type server struct {
	addr string

	mu     sync.Mutex // guards the rest
	got    []received
	refuse map[string]error // by recipient
	users  []string
	hang   chan struct{} // nil: it answers
}

type received struct {
	to   []string
	data string
}

// newServer makes one that can STARTTLS.
func newServer(t *testing.T) *server {
	t.Helper()
	return newServerWith(t, &tls.Config{Certificates: []tls.Certificate{certificate}})
}

func newServerWith(t *testing.T, c *tls.Config) *server {
	t.Helper()
	s := &server{refuse: make(map[string]error)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := smtp.NewServer(s)
	srv.Domain, srv.TLSConfig, srv.AllowInsecureAuth = "localhost", c, true
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return s
}

func (s *server) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{s: s}, nil }

type session struct {
	s  *server
	to []string
}

func (*session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (c *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.s.users = append(c.s.users, user+":"+password)
		return nil
	}), nil
}

func (c *session) Mail(string, *smtp.MailOptions) error { return nil }

func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if err := c.s.refuse[to]; err != nil {
		return err
	}
	c.to = append(c.to, to)
	return nil
}

func (c *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if c.s.hang != nil {
		<-c.s.hang
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.got = append(c.s.got, received{c.to, string(data)})
	return nil
}

func (c *session) Reset()      { c.to = nil }
func (*session) Logout() error { return nil }

func (s *server) mails() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

func (s *server) sender(t *testing.T, options string) *mail.SMTP {
	t.Helper()
	sender, err := mail.NewSMTP("smtp://ann:secret@"+s.addr+options, "Webhooks <hooks@example.com>")
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

// source has one webhook.
type source struct {
	hook   fanfare.Webhook
	emails []string
	err    error
}

func (s *source) MailTo(context.Context, uuid.UUID, uuid.UUID) (*store.MailTo, error) {
	return &store.MailTo{Webhook: &s.hook, Account: "Ex & Co", Emails: s.emails}, s.err
}

func newSource() *source {
	return &source{emails: []string{"a@example.org"}, hook: fanfare.Webhook{
		ID: uuid.MustParse("019ca8b2-5c00-7000-8000-000000000002"), AccountID: uuid.New(), Name: "CRM", URL: "https://example.com/hooks?token=canary",
	}}
}

func row(kind store.MailKind, body store.MailBody) store.OutboxRow {
	return store.OutboxRow{ID: uuid.MustParse("019ca8b2-5c00-7000-8000-000000000009"), Name: string(kind), Body: body.JSON(), Tries: 1, CreatedAt: time.Now()}
}

func templates(t *testing.T) *mail.Templates {
	t.Helper()
	all, err := mail.LoadTemplates(nil)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func evidence(body string) store.MailBody {
	e := retry.NewEvidence(retry.HealthJudgement{
		Rule: retry.RuleRatio, Within: 24 * time.Hour, Count: retry.HealthCount{Attempts: 288, Failures: 280}, Since: time.Now().Add(-25 * time.Hour),
	})
	e.Samples = []retry.Sample{retry.NewSample("e", "a", time.Now(), 503, fanfare.ErrStatus, []byte(body))}
	return store.MailBody{At: time.Now(), By: fanfare.DisabledByHealth, Evidence: e.JSON()}
}

// parsed is a mail's header and its text and HTML, decoded.
func parsed(t *testing.T, raw string) (netmail.Header, string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	b, err := io.ReadAll(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	return m.Header, strings.ReplaceAll(strings.ReplaceAll(string(b), "=\r\n", ""), "=3D", "=")
}

func TestAMailReachesItsReadersThroughARealServer(t *testing.T) {
	s, from := newServer(t), newSource()
	from.emails = []string{"a@example.org", "b@example.org"}
	from.hook.Disabled = &fanfare.Disabled{By: fanfare.DisabledByHealth, At: time.Now()}
	handle := mail.Handle(mail.Options{
		Source: from, Sender: s.sender(t, "?tls=opportunistic"), Templates: templates(t), Domain: "example.com",
		Link: func(*fanfare.Webhook) string { return "https://hooks.example.com/enable/x" },
	})

	for range 2 { // the second as after a crash
		if errs := handle(t.Context(), []store.OutboxRow{row(store.MailDisabled, evidence("try later"))}); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}

	got := s.mails()
	if len(got) != 2 {
		t.Fatalf("%d mails", len(got))
	}
	if diff := cmp.Diff(from.emails, got[0].to); diff != "" {
		t.Error(diff)
	}
	header, body := parsed(t, got[0].data)
	again, _ := parsed(t, got[1].data)
	if id := header.Get("Message-Id"); id != "<019ca8b2-5c00-7000-8000-000000000009@example.com>" || again.Get("Message-Id") != id {
		t.Errorf("ids %s and %s", id, again.Get("Message-Id"))
	}
	if header.Get("Subject") != `Your webhook "CRM" was disabled` || header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("%v", header)
	}
	for _, want := range []string{
		"280 of 288 requests", "97 %", "within 1d", "503: try later", "https://hooks.example.com/enable/x", "Ex & Co", "Ex &amp; Co", "text/html", "text/plain",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	if strings.Contains(got[0].data, "canary") {
		t.Error("the query of the URL is in the mail")
	}
	if len(s.users) == 0 || s.users[0] != "ann:secret" {
		t.Errorf("logged in as %q", s.users)
	}
}

func TestNamesAndAnswersCannotSayMoreThanText(t *testing.T) {
	s, from := newServer(t), newSource()
	from.hook.Name = "x\r\nBcc: victim@example.net\r\n\r\n<script>alert(1)</script>\u2028y"
	handle := mail.Handle(mail.Options{Source: from, Sender: s.sender(t, ""), Templates: templates(t), Domain: "example.com"})
	if errs := handle(t.Context(), []store.OutboxRow{row(store.MailWarning, evidence("<img src=x onerror=alert(2)>\r\n.\r\nQUIT"))}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	got := s.mails()[0]
	header, body := parsed(t, got.data)
	subject, err := new(mime.WordDecoder).DecodeHeader(header.Get("Subject"))
	if want := `Your webhook "x Bcc: victim@example.net <script>alert(1)</script> y" is failing`; err != nil || subject != want {
		t.Errorf("subject %q, %v", subject, err)
	}
	if header.Get("Bcc") != "" || len(got.to) != 1 || strings.Contains(header.Get("Subject"), "\n") {
		t.Errorf("to %q, %v", got.to, header)
	}
	_, page, _ := strings.Cut(body, "text/html")
	for _, bad := range []string{"<script", "<img"} {
		if strings.Contains(page, bad) {
			t.Errorf("%s in\n%s", bad, page)
		}
	}
}

func TestWhatBecomesOfAMailThatIsNotTaken(t *testing.T) {
	busy, gone := &smtp.SMTPError{Code: 451, Message: "greylisted"}, &smtp.SMTPError{Code: 550, Message: "no such user"}
	for name, tc := range map[string]struct {
		refuse map[string]error
		old    bool
		again  bool
		taken  int
	}{
		"greylisted":            {map[string]error{"a@example.org": busy}, false, true, 0},
		"greylisted for days":   {map[string]error{"a@example.org": busy}, true, false, 0},
		"rejected":              {map[string]error{"a@example.org": gone, "b@example.org": gone}, false, false, 0},
		"rejected for one only": {map[string]error{"a@example.org": gone}, false, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, from := newServer(t), newSource()
			from.emails = []string{"a@example.org", "b@example.org"}
			s.refuse = tc.refuse
			handle := mail.Handle(mail.Options{Source: from, Sender: s.sender(t, ""), Templates: templates(t)})
			r := row(store.MailEnabled, store.MailBody{At: time.Now()})
			if tc.old {
				r.CreatedAt = time.Now().Add(-72 * time.Hour)
			}
			if errs := handle(t.Context(), []store.OutboxRow{r}); (errs[0] != nil) != tc.again || len(s.mails()) != tc.taken {
				t.Errorf("%v, %d taken", errs[0], len(s.mails()))
			}
		})
	}
}

func TestAServerThatHangsOrIsAwayKeepsTheMailsForLater(t *testing.T) {
	rows := []store.OutboxRow{row(store.MailEnabled, store.MailBody{}), row(store.MailEnabled, store.MailBody{})}
	t.Run("hangs", func(t *testing.T) {
		s := newServer(t)
		s.hang = make(chan struct{})
		t.Cleanup(func() { close(s.hang) })
		handle := mail.Handle(mail.Options{Source: newSource(), Sender: s.sender(t, "?timeout=200ms"), Templates: templates(t)})
		if errs := handle(t.Context(), rows); errs[0] == nil || errs[1] == nil {
			t.Errorf("%v", errs)
		}
	})
	t.Run("away", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		sender, err := mail.NewSMTP("smtp://"+l.Addr().String(), "hooks@example.com")
		if err != nil {
			t.Fatal(err)
		}
		handle := mail.Handle(mail.Options{Source: newSource(), Sender: sender, Templates: templates(t)})
		if errs := handle(t.Context(), rows); errs[0] == nil || errs[1] == nil {
			t.Errorf("%v", errs)
		}
	})
	t.Run("has no TLS", func(t *testing.T) {
		s := newServerWith(t, nil)
		handle := mail.Handle(mail.Options{Source: newSource(), Sender: s.sender(t, ""), Templates: templates(t)})
		if errs := handle(t.Context(), rows); errs[0] == nil || len(s.users) > 0 {
			t.Errorf("%v, logged in as %q", errs, s.users)
		}
	})
}

func TestWhoIsNotMailed(t *testing.T) {
	for name, change := range map[string]func(*source){
		"nobody is named":         func(s *source) { s.emails = nil },
		"the webhook was deleted": func(s *source) { s.err = store.ErrNotFound },
	} {
		from := newSource()
		change(from)
		handle := mail.Handle(mail.Options{Source: from, Sender: refusing{t}, Templates: templates(t)})
		if errs := handle(t.Context(), []store.OutboxRow{row(store.MailEnabled, store.MailBody{})}); errs[0] != nil {
			t.Errorf("%s: %v", name, errs[0])
		}
	}
	from := newSource()
	from.err = errors.New("Postgres is away")
	handle := mail.Handle(mail.Options{Source: from, Sender: refusing{t}, Templates: templates(t)})
	if errs := handle(t.Context(), []store.OutboxRow{row(store.MailEnabled, store.MailBody{})}); errs[0] == nil {
		t.Error("a mail was lost")
	}
}

// refusing fails a test in which anything is sent.
type refusing struct{ t *testing.T }

func (r refusing) Send(_ context.Context, m []mail.Message) []error {
	r.t.Errorf("sent %v", m)
	return make([]error, len(m))
}

func TestAnOperatorsTemplatesAreTriedAtTheStart(t *testing.T) {
	for name, tc := range map[string]struct {
		files fstest.MapFS
		fault string
	}{
		"sound":            {fstest.MapFS{"warning.txt": {Data: []byte("Oh {{.Webhook.Name}}\nText")}}, ""},
		"not a template":   {fstest.MapFS{"warning.txt": {Data: []byte("{{")}}, "warning.txt"},
		"an unknown macro": {fstest.MapFS{"disabled.html": {Data: []byte("{{.Webhook.Nam}}")}}, "disabled"},
		"no text":          {fstest.MapFS{"enabled.txt": {Data: []byte("Only a subject")}}, "enabled.txt"},
	} {
		_, err := mail.LoadTemplates(tc.files)
		if (err == nil) != (tc.fault == "") || err != nil && !strings.Contains(err.Error(), tc.fault) {
			t.Errorf("%s: %v", name, err)
		}
	}
	all, err := mail.LoadTemplates(fstest.MapFS{"enabled.txt": {Data: []byte("Mine: {{.Webhook.Name}}\nHello")}})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	handle := mail.Handle(mail.Options{Source: newSource(), Sender: s.sender(t, ""), Templates: all})
	if errs := handle(t.Context(), []store.OutboxRow{row(store.MailEnabled, store.MailBody{})}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	if header, _ := parsed(t, s.mails()[0].data); header.Get("Subject") != "Mine: CRM" {
		t.Errorf("%v", header)
	}
}

func TestFaultsOfAServersURL(t *testing.T) {
	for _, where := range []string{"", "mail.example.com", "http://example.com", "smtp://", "smtp://h:x", "smtp://h:0", "smtp://h?tls=maybe", "smtps://h?tls=none"} {
		if _, err := mail.NewSMTP(where, "a@example.com"); err == nil {
			t.Errorf("%q was taken", where)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", where, err)
		}
	}
	for _, where := range []string{"smtp://u:p@h", "smtps://h", "smtp://h:25?tls=opportunistic", "smtp://[::1]:25?tls=none"} {
		if _, err := mail.NewSMTP(where, "Ann <a@example.com>"); err != nil {
			t.Errorf("%q: %v", where, err)
		}
	}
	if _, err := mail.NewSMTP("smtp://u:secret@h", "nobody"); err == nil || bytes.Contains([]byte(err.Error()), []byte("secret")) {
		t.Errorf("%v", err)
	}
}
