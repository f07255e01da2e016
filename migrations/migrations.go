// Package migrations brings a database to the schema that this binary needs.
//
// It hides goose, the embedded SQL files and the lock that lets any number of nodes migrate at once.
// A migration only expands: version N of the server runs on schema N-1 and on schema N.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver that goose speaks through
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:generate go test -run TestTheCheckedInSchemaIsTheMigrated -update .

// The dump of the schema, schema.sql, is for review and not among them.
//
//go:embed [0-9]*.sql
var files embed.FS

// ErrPending says that the database's schema is older than this binary.
var ErrPending = errors.New("the database is not migrated")

// Migration is one step of the schema and when it was applied.
type Migration struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero: pending
}

// Up applies every pending migration. Several callers may do so at once: one works, the others wait.
func Up(ctx context.Context, url string) ([]Migration, error) {
	var applied []Migration
	err := with(ctx, url, func(p *goose.Provider) error {
		results, err := p.Up(ctx)
		for _, r := range results {
			applied = append(applied, Migration{Version: r.Source.Version, Name: r.Source.Path, AppliedAt: time.Now()})
		}
		return err
	})
	return applied, err
}

// DownTo takes back every migration above version; 0 leaves an empty schema. Only tests want this: it
// drops data.
func DownTo(ctx context.Context, url string, version int64) error {
	return with(ctx, url, func(p *goose.Provider) error {
		_, err := p.DownTo(ctx, version)
		return err
	})
}

// Status lists every migration of this binary, oldest first.
func Status(ctx context.Context, url string) ([]Migration, error) {
	var all []Migration
	err := with(ctx, url, func(p *goose.Provider) error {
		states, err := p.Status(ctx)
		for _, s := range states {
			all = append(all, Migration{Version: s.Source.Version, Name: s.Source.Path, AppliedAt: s.AppliedAt})
		}
		return err
	})
	return all, err
}

// Check answers [ErrPending] if the schema is older than this binary. A newer one is fine.
func Check(ctx context.Context, url string) error {
	return with(ctx, url, func(p *goose.Provider) error {
		pending, err := p.HasPending(ctx)
		if err == nil && pending {
			err = ErrPending
		}
		return err
	})
}

func with(ctx context.Context, url string, do func(*goose.Provider) error) (err error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	if err := do(p); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
