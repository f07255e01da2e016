package mail

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	html "html/template"
	"io/fs"
	"strings"
	text "text/template"
	"time"
	"unicode"

	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
)

// Facts are what a template may name.
type Facts struct {
	Webhook WebhookFacts
	Account AccountFacts

	Attempts     int       // those that were looked at
	Failures     int       // of them
	Percent      int       // Failures of a hundred Attempts
	Window       string    // such as 1d: what was looked at; "" if a single answer was enough
	FailingSince time.Time // zero: not known
	Rule         string    // ratio, burst, exhausted or gone

	LastStatus int    // of the last attempt that failed; 0: there was no response
	LastError  string // its code, such as timeout
	LastBody   string // the start of its response, as far as it is text

	At    time.Time // when it happened
	By    string    // health or gone: who disabled it
	Count int       // deliveries that were given up
	Since time.Time // when the first of them was
	Link  string    // enables the webhook again; "": it is not disabled, or there is no link
}

// WebhookFacts are those of the webhook.
type WebhookFacts struct {
	ID   string
	Name string // its URL if it has none
	URL  string // without the query
}

// AccountFacts are those of the webhook's account.
type AccountFacts struct{ ID, Name string }

func (f *Facts) judged(e *retry.Evidence) {
	f.Attempts, f.Failures, f.Rule = e.Attempts, e.Failures, string(e.Rule)
	f.Percent = int(e.FailureRatio*100 + 0.5)
	if e.Window != nil {
		f.Window = retry.FormatDuration(time.Duration(*e.Window))
	}
	if e.FailingSince != nil {
		f.FailingSince = e.FailingSince.UTC()
	}
	if len(e.Samples) == 0 {
		return
	}
	last := e.Samples[0]
	for _, s := range e.Samples {
		if s.StartedAt.After(last.StartedAt.Time) {
			last = s
		}
	}
	if last.Status != nil {
		f.LastStatus = *last.Status
	}
	if last.Error != nil {
		f.LastError = string(*last.Error)
	}
	f.LastBody = last.ResponseBody
}

// kinds are those that have templates.
var kinds = []store.MailKind{store.MailWarning, store.MailDisabled, store.MailEnabled, store.MailExhausted}

//go:embed templates
var own embed.FS

// Templates make mails: of each kind a KIND.txt, whose first line is the subject, and a KIND.html.
type Templates struct {
	texts map[store.MailKind]*text.Template
	htmls map[store.MailKind]*html.Template
}

// LoadTemplates reads the service's own templates, and in place of them those that given has; nil has none. The
// error names every file that is not sound, tried on a mail that has every fact.
func LoadTemplates(given fs.FS) (*Templates, error) {
	t := &Templates{texts: make(map[store.MailKind]*text.Template), htmls: make(map[store.MailKind]*html.Template)}
	var faults []error
	for _, kind := range kinds {
		var err error
		if t.texts[kind], err = parse(given, string(kind)+".txt", text.New("").Option("missingkey=error").Parse); err != nil {
			faults = append(faults, err)
		}
		if t.htmls[kind], err = parse(given, string(kind)+".html", html.New("").Option("missingkey=error").Parse); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	for _, kind := range kinds {
		if m, err := t.render(kind, sample); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", kind, err))
		} else if m.Subject == "" || strings.TrimSpace(m.Text) == "" {
			faults = append(faults, fmt.Errorf("%s.txt: the first line is the subject, and the text follows it", kind))
		}
	}
	return t, errors.Join(faults...)
}

func parse[T any](given fs.FS, name string, parse func(string) (T, error)) (t T, err error) {
	var source []byte
	if given != nil {
		source, err = fs.ReadFile(given, name)
	}
	if given == nil || errors.Is(err, fs.ErrNotExist) {
		source, err = own.ReadFile("templates/" + name)
	}
	if err != nil {
		return t, err
	}
	if t, err = parse(string(source)); err != nil {
		return t, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

var sample = &Facts{
	Webhook:  WebhookFacts{ID: "019ca8b2-5c00-7000-8000-000000000002", Name: "CRM", URL: "https://example.com/hooks"},
	Account:  AccountFacts{ID: "019ca8b2-5c00-7000-8000-000000000001", Name: "Example Ltd"},
	Attempts: 288, Failures: 280, Percent: 97, Window: "1d", FailingSince: time.Unix(1772366400, 0).UTC(), Rule: "ratio",
	LastStatus: 503, LastError: "status", LastBody: "try later", At: time.Unix(1772452800, 0).UTC(), By: "health",
	Count: 12, Since: time.Unix(1772366400, 0).UTC(), Link: "https://hooks.example.com/enable/x",
}

func (t *Templates) render(kind store.MailKind, f *Facts) (m Message, err error) {
	txt, page := t.texts[kind], t.htmls[kind]
	if txt == nil || page == nil {
		return m, fmt.Errorf("there is no mail of kind %q", kind)
	}
	var b, h bytes.Buffer
	if err := txt.Execute(&b, f); err != nil {
		return m, err
	}
	if err := page.Execute(&h, f); err != nil {
		return m, err
	}
	subject, body, _ := strings.Cut(b.String(), "\n")
	m.Subject, m.Text, m.HTML = oneLine(subject), strings.TrimLeft(body, "\r\n"), h.String()
	return m, nil
}

// maxSubject is in characters.
const maxSubject = 200

// oneLine is what a header can hold: names are free text, with anything in them.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if runes := []rune(s); len(runes) > maxSubject {
		s = string(runes[:maxSubject-1]) + "…"
	}
	return s
}
