package app

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/catalog"
	"github.com/fanfare-webhooks/fanfare/internal/mail"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
)

// Config is what the environment says about a node. The tag doc explains a variable; `fanfare serve
// --help` and docs/configuration.md are made from the tags.
type Config struct {
	DatabaseURL    string        `env:"FANFARE_DATABASE_URL" doc:"Postgres, as a URL; if unset, DATABASE_URL is used. Required."`
	Listen         string        `env:"FANFARE_LISTEN" envDefault:":8080" doc:"Address of the public API."`
	AdminListen    string        `env:"FANFARE_ADMIN_LISTEN" envDefault:"127.0.0.1:9090" doc:"Address of /metrics, /healthz, /readyz and pprof. Do not make it public."`
	PlatformKey    string        `env:"FANFARE_PLATFORM_KEY" doc:"A fixed platform key of at least 32 characters, for bootstrapping. Unset: only keys made with 'fanfare keys create'."`
	EncryptionKeys string        `env:"FANFARE_ENCRYPTION_KEYS" doc:"Keys that seal secrets at rest: id:base64 of 32 bytes, newest first, comma-separated. Required."`
	EgressAllow    []string      `env:"FANFARE_EGRESS_ALLOW" doc:"CIDRs opened to webhooks beyond the public Internet."`
	EgressDeny     []string      `env:"FANFARE_EGRESS_DENY" doc:"CIDRs closed to webhooks. Wins over everything."`
	AllowHTTP      bool          `env:"FANFARE_ALLOW_HTTP" envDefault:"false" doc:"Allow http:// URLs."`
	Echo           bool          `env:"FANFARE_ECHO" envDefault:"false" doc:"Serve the test receiver under /echo/."`
	Catalog        string        `env:"FANFARE_CATALOG" doc:"A file of event types, YAML or JSON, that is applied at the start; see docs/guides/catalog.md."`
	Migrate        bool          `env:"FANFARE_MIGRATE" envDefault:"false" doc:"Migrate the database at the start."`
	Grace          time.Duration `env:"FANFARE_GRACE" envDefault:"65s" doc:"How long requests in flight may take at a shutdown. Above the longest timeout of a webhook nothing is repeated."`
	Retention      string        `env:"FANFARE_RETENTION" envDefault:"30d" doc:"How long events and attempts are kept; at least 9d, the longest retry schedule and two days."`
	MaxInFlight    int           `env:"FANFARE_MAX_IN_FLIGHT" envDefault:"1000" doc:"Requests in flight at once."`
	MaxConns       int           `env:"FANFARE_DATABASE_CONNS" envDefault:"10" doc:"Connections to Postgres for API calls; the engine uses up to 8 more."`
	PublicURL      string        `env:"FANFARE_PUBLIC_URL" doc:"Where clients and owners of webhooks reach the public API, such as https://hooks.example.com: for links in mails."`
	SMTPURL        string        `env:"FANFARE_SMTP_URL" doc:"The server that takes mails to owners of webhooks: smtp://user:password@host:587 with STARTTLS, or smtps://. ?tls=opportunistic or none asks for less. Unset: nobody is mailed."`
	MailFrom       string        `env:"FANFARE_MAIL_FROM" doc:"Whom mails are from, such as Example webhooks <webhooks@example.com>. Required with FANFARE_SMTP_URL."`
	MailTemplates  string        `env:"FANFARE_MAIL_TEMPLATES" doc:"A directory with templates in place of the service's own: warning, disabled, enabled and exhausted, each .txt and .html."`
	LogLevel       string        `env:"FANFARE_LOG_LEVEL" envDefault:"info" doc:"debug, info, warn or error."`

	// What only `fanfare dev` sets.
	allowLoopback bool
	minRetryStep  time.Duration
	keyring       *seal.Keyring
	retention     time.Duration
	allow, deny   []netip.Prefix
	eventTypes    []fanfare.EventType // of Catalog
	mails         *mail.Templates
	sender        mail.Sender // nil: nobody is mailed
	keptMails     *mail.Kept  // shown at /dev/mail; nil: there are none
}

// minRetention is the longest retry schedule and two days.
const minRetention = retry.MaxTotal + 48*time.Hour

// LoadConfig reads the environment. Its error names every fault, one a line, and quotes no secret.
func LoadConfig(environ map[string]string) (*Config, error) {
	c := &Config{}
	var faults []error
	if err := env.ParseWithOptions(c, env.Options{Environment: environ}); err != nil {
		faults = append(faults, parseFaults(err)...)
	}
	if c.DatabaseURL == "" {
		c.DatabaseURL = environ["DATABASE_URL"]
	}
	return c, errors.Join(append(faults, c.check()...)...)
}

// parseFaults names the variables, where the library names the fields.
func parseFaults(err error) (faults []error) {
	var all env.AggregateError
	if !errors.As(err, &all) {
		return []error{err}
	}
	for _, err := range all.Errors {
		var parse env.ParseError
		if errors.As(err, &parse) {
			if f, ok := reflect.TypeFor[Config]().FieldByName(parse.Name); ok {
				err = fmt.Errorf("%s: must be %s", f.Tag.Get("env"), kinds[f.Type.Kind()])
			}
		}
		faults = append(faults, err)
	}
	return faults
}

var kinds = map[reflect.Kind]string{reflect.Bool: "true or false", reflect.Int: "a whole number", reflect.Int64: `a duration such as "65s"`}

func (c *Config) check() (faults []error) {
	fault := func(name, format string, args ...any) {
		faults = append(faults, fmt.Errorf(name+": "+format, args...))
	}
	if c.DatabaseURL == "" {
		fault("FANFARE_DATABASE_URL", "required, such as postgres://user@host/fanfare")
	} else if store.CheckURL(c.DatabaseURL) != nil {
		fault("FANFARE_DATABASE_URL", "not the URL of a Postgres, such as postgres://user@host/fanfare")
	}
	for name, addr := range map[string]string{"FANFARE_LISTEN": c.Listen, "FANFARE_ADMIN_LISTEN": c.AdminListen} {
		if _, err := net.ResolveTCPAddr("tcp", addr); err != nil {
			fault(name, "not an address to listen on, such as :8080")
		}
	}
	if c.Listen == c.AdminListen && !strings.HasSuffix(c.Listen, ":0") {
		fault("FANFARE_ADMIN_LISTEN", "must differ from FANFARE_LISTEN")
	}
	if c.EncryptionKeys == "" {
		fault("FANFARE_ENCRYPTION_KEYS", "required; make one with: echo \"k1:$(head -c 32 /dev/urandom | base64)\"")
	} else if k, err := seal.Parse(c.EncryptionKeys); err != nil {
		fault("FANFARE_ENCRYPTION_KEYS", "%w", err)
	} else {
		c.keyring = k
	}
	if c.PlatformKey != "" && len(c.PlatformKey) < 32 {
		fault("FANFARE_PLATFORM_KEY", "at least 32 characters")
	}
	var err error
	if c.retention, err = retry.ParseDuration(c.Retention); err != nil {
		fault("FANFARE_RETENTION", "%w", err)
	} else if c.retention < minRetention {
		fault("FANFARE_RETENTION", "at least %s", retry.FormatDuration(minRetention))
	}
	c.checkMail(fault)
	c.allow = prefixes(c.EgressAllow, "FANFARE_EGRESS_ALLOW", fault)
	c.deny = prefixes(c.EgressDeny, "FANFARE_EGRESS_DENY", fault)
	if c.Catalog != "" {
		if c.eventTypes, err = catalog.Load(c.Catalog); err != nil {
			fault("FANFARE_CATALOG", "%w", err)
		}
	}
	if c.MaxInFlight < 1 || c.MaxInFlight > 100_000 {
		fault("FANFARE_MAX_IN_FLIGHT", "1 to 100000")
	}
	if c.MaxConns < 1 || c.MaxConns > 1000 {
		fault("FANFARE_DATABASE_CONNS", "1 to 1000")
	}
	if c.Grace < 0 {
		fault("FANFARE_GRACE", "not negative")
	}
	if _, err := parseLevel(c.LogLevel); err != nil {
		fault("FANFARE_LOG_LEVEL", "debug, info, warn or error")
	}
	return faults
}

func (c *Config) checkMail(fault func(name, format string, args ...any)) {
	if u, err := url.Parse(c.PublicURL); c.PublicURL != "" &&
		(err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil) {
		fault("FANFARE_PUBLIC_URL", "not of the form https://hooks.example.com")
	}
	var given fs.FS
	if c.MailTemplates != "" {
		given = os.DirFS(c.MailTemplates)
		if info, err := os.Stat(c.MailTemplates); err != nil || !info.IsDir() {
			fault("FANFARE_MAIL_TEMPLATES", "not a directory that can be read")
		}
	}
	var err error
	if c.mails, err = mail.LoadTemplates(given); err != nil {
		fault("FANFARE_MAIL_TEMPLATES", "%w", err)
	}
	if c.SMTPURL == "" {
		return
	}
	if c.MailFrom == "" {
		fault("FANFARE_MAIL_FROM", "required with FANFARE_SMTP_URL")
		return
	}
	s, err := mail.NewSMTP(c.SMTPURL, c.MailFrom)
	if err != nil {
		fault("FANFARE_SMTP_URL", "%w", err)
		return
	}
	c.sender = s
}

func prefixes(texts []string, name string, fault func(name, format string, args ...any)) (ps []netip.Prefix) {
	for _, text := range texts {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			fault(name, "%q is not a CIDR such as 10.1.0.0/16", text)
			continue
		}
		ps = append(ps, p)
	}
	return ps
}

// Variable is one environment variable that a node reads.
type Variable struct{ Name, Default, Doc string }

// Variables lists every variable in the order in which they are documented.
func Variables() []Variable {
	var all []Variable
	for f := range reflect.TypeFor[Config]().Fields() {
		if name := f.Tag.Get("env"); name != "" {
			all = append(all, Variable{name, f.Tag.Get("envDefault"), f.Tag.Get("doc")})
		}
	}
	return all
}
