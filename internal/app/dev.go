package app

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/api"
	"github.com/fanfare-webhooks/fanfare/internal/catalog"
	"github.com/fanfare-webhooks/fanfare/internal/client"
	"github.com/fanfare-webhooks/fanfare/internal/devpg"
	"github.com/fanfare-webhooks/fanfare/internal/mail"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/migrations"
)

// DevOptions are the flags of `fanfare dev`.
type DevOptions struct {
	Dir          string // "": the user's cache directory
	Listen       string
	Admin        string
	DenyLoopback bool   // production's egress rule
	Catalog      string // a catalog file; "": none
}

// demoAccount is the account of every new `fanfare dev`, so that a command typed once works after each start.
var demoAccount = uuid.MustParse("01900000-0000-7000-8000-00000000de30")

// Dev runs everything on one machine until ctx ends: a private Postgres, a migrated database, a demo
// account and a node. It says on out what to try.
func Dev(ctx context.Context, o DevOptions, log *slog.Logger, out io.Writer) (err error) {
	if o.Dir, err = client.DevDir(o.Dir); err != nil {
		return fmt.Errorf("no place for the data; give one with --data: %w", err)
	}
	isNew, err := makeDir(o.Dir)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "Starting Postgres …")
	pg, err := devpg.Start(ctx, devpg.Options{Dir: filepath.Join(o.Dir, "postgres"), Log: log})
	switch {
	case errors.Is(err, devpg.ErrInUse):
		return fmt.Errorf("another 'fanfare dev' runs on %s: stop it, or give this one a --data of its own", o.Dir)
	case err != nil:
		return err
	}
	watched := watch(pg, log)
	defer func() {
		watched()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, pg.Stop(stop))
	}()
	c, cred, err := o.prepare(ctx, pg, isNew)
	if err != nil {
		return err
	}
	a, err := Start(ctx, c, log)
	if err != nil {
		return err
	}
	cred.URL, cred.AdminURL = "http://"+dialable(a.PublicAddr), "http://"+dialable(a.AdminAddr)
	if err := cred.Write(o.Dir); err != nil {
		return errors.Join(err, a.Stop(context.WithoutCancel(ctx)))
	}
	explain(out, o.Dir, cred)
	return a.Serve(ctx)
}

// watch starts Postgres again when it ends by itself, until the function that it returns is called.
func watch(pg *devpg.Server, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-pg.Done():
			}
			log.Error("Postgres has ended; starting it again", "log", pg.LogFile())
			for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, 30*time.Second) {
				err := pg.Restart(ctx)
				if err == nil {
					break
				}
				log.Error("Postgres does not start", "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(wait):
				}
			}
		}
	})
	return func() { cancel(); watcher.Wait() }
}

func makeDir(dir string) (isNew bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return len(entries) == 0, os.MkdirAll(dir, 0o700)
}

const devDatabase = "fanfare"

// prepare migrates the database and puts the demo account and its keys there.
func (o DevOptions) prepare(ctx context.Context, pg *devpg.Server, isNew bool) (*Config, *client.Credentials, error) {
	if err := pg.CreateDatabase(ctx, devDatabase); err != nil {
		return nil, nil, err
	}
	encryption, err := encryptionKey(filepath.Join(o.Dir, "encryption.key"))
	if err != nil {
		return nil, nil, err
	}
	c, err := LoadConfig(map[string]string{
		"FANFARE_DATABASE_URL": pg.URL(devDatabase), "FANFARE_ENCRYPTION_KEYS": encryption,
		"FANFARE_LISTEN": o.Listen, "FANFARE_ADMIN_LISTEN": o.Admin, "FANFARE_ECHO": "true", "FANFARE_GRACE": "10s",
		"FANFARE_CATALOG": o.Catalog,
	})
	if err != nil {
		return nil, nil, err
	}
	c.allowLoopback, c.minRetryStep = !o.DenyLoopback, time.Second
	c.keptMails = new(mail.Kept)
	c.sender = c.keptMails
	if _, err := migrations.Up(ctx, c.DatabaseURL); err != nil {
		return nil, nil, err
	}
	s, err := store.Open(ctx, store.Options{URL: c.DatabaseURL})
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	cred, err := demo(ctx, s, o.Dir, isNew)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare the demo account: %w", err)
	}
	cred.DatabaseURL, cred.PID = c.DatabaseURL, os.Getpid()
	return c, cred, nil
}

// encryptionKey reads the key that seals this directory's secrets, or makes it.
func encryptionKey(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	key, err := seal.Generate("dev")
	if err != nil {
		return "", err
	}
	return key, os.WriteFile(file, []byte(key+"\n"), 0o600)
}

// demo makes the demo account, its catalog in a new directory, and keys unless credentials.json has some
// that are still good.
func demo(ctx context.Context, s *store.Store, dir string, isNew bool) (*client.Credentials, error) {
	cred, err := client.FindDev(dir)
	if err != nil {
		cred = &client.Credentials{} // also for a file that cannot be read
	}
	account, err := ensureDemoAccount(ctx, s, cred.AccountID)
	if err != nil {
		return nil, err
	}
	if account != cred.AccountID {
		cred.AccountID, cred.AccountKey = account, ""
	}
	if isNew {
		types, _ := catalog.Parse(demoCatalog) // a test says that it is sound
		for _, t := range types {
			if _, err := s.PutEventType(ctx, &t); err != nil {
				return nil, err
			}
		}
	}
	if err := ensureKey(ctx, s, &cred.PlatformKey, uuid.NullUUID{}, "dev platform key"); err != nil {
		return nil, err
	}
	return cred, ensureKey(ctx, s, &cred.AccountKey, uuid.NullUUID{UUID: account, Valid: true}, "dev account key")
}

// ensureDemoAccount finds the account of the last start, or makes one. Somebody may have deleted it, and
// the id of an account is never used again.
func ensureDemoAccount(ctx context.Context, s *store.Store, last uuid.UUID) (uuid.UUID, error) {
	for _, id := range []uuid.UUID{last, demoAccount} {
		if _, err := s.Account(ctx, id); err == nil && id != fanfare.PlatformAccount {
			return id, nil
		} else if err != nil && !errors.Is(err, store.ErrNotFound) {
			return id, err
		}
	}
	a := &fanfare.Account{ID: demoAccount, Name: "Demo", Metadata: []byte(`{}`)}
	err := s.CreateAccount(ctx, a, nil)
	if err != nil && !store.Unreachable(err) { // the id is that of a deleted account
		if a.ID, err = uuid.NewV7(); err == nil {
			err = s.CreateAccount(ctx, a, nil)
		}
	}
	return a.ID, err
}

// ensureKey makes a new key unless the one at text is known.
func ensureKey(ctx context.Context, s *store.Store, text *string, account uuid.NullUUID, name string) error {
	known, err := s.HasKey(ctx, api.HashKey(*text))
	if err == nil && !known {
		*text, err = CreateKey(ctx, s, account, name, fanfare.Scopes())
	}
	return err
}

// CreateKey stores a new key and answers its text, which nobody can read again.
func CreateKey(ctx context.Context, s *store.Store, account uuid.NullUUID, name string, scopes []fanfare.Scope) (string, error) {
	text, hash, hint := api.NewKey()
	id, err := uuid.NewV7()
	if err != nil {
		return "", err
	}
	k := &fanfare.Key{ID: id, AccountID: account, Name: name, Hint: hint, Scopes: scopes}
	return text, s.CreateKey(ctx, k, hash, nil)
}

// dialable is an address listened on as one that can be dialled.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

func explain(out io.Writer, dir string, c *client.Credentials) {
	fmt.Fprintf(out, `
Fanfare is up.

  API      %[1]s        (docs: %[1]s/docs)
  Echo     %[1]s/echo/demo/view   shows what the test receiver gets
  Mail     %[1]s/dev/mail   shows what would be mailed
  Metrics  %[2]s/metrics
  Keys     %[3]s

Try it: register a webhook, publish an event, see it arrive.

curl -sS %[1]s/v1/accounts/me/webhooks -H 'Authorization: Bearer %[4]s' -H 'Content-Type: application/json' -d '{"name": "My first webhook", "url": "%[1]s/echo/demo", "event_types": ["*"]}'

curl -sS %[1]s/v1/accounts/me/events -H 'Authorization: Bearer %[4]s' -H 'Content-Type: application/json' -d '{"type": "invoice.paid", "data": {"amount": 1250, "currency": "EUR"}}'

curl -sS %[1]s/v1/echo/demo/requests -H 'Authorization: Bearer %[4]s'

Press Ctrl-C to stop. The data stays in %[5]s
`, c.URL, c.AdminURL, client.CredentialsFile(dir), c.AccountKey, dir)
}

// demoCatalog is what a new directory begins with.
//
//go:embed demo.yaml
var demoCatalog []byte
