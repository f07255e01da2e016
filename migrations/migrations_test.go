package migrations_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare/internal/devpg"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/migrations"
)

var update = flag.Bool("update", false, "write schema.sql anew")

func TestMain(m *testing.M) { pgtest.Main(m) }

var databases atomic.Int64

// empty makes a database with nothing in it and returns how to connect to it.
func empty(t *testing.T) string {
	t.Helper()
	url := pgtest.URL(t) // migrated; its server can hold another
	name := fmt.Sprintf("empty_%d", databases.Add(1))
	query(t, url, `CREATE DATABASE `+name)
	t.Cleanup(func() { query(t, url, `DROP DATABASE `+name+` WITH (FORCE)`) })
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(url, "/"+c.Database+"?", "/"+name+"?", 1)
}

// query runs a statement and returns the first column of its rows as text.
func query(t *testing.T, url, sql string) []string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // clean-ups use it, too
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is left to lose
	rows, err := conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func up(t *testing.T, url string) []migrations.Migration {
	t.Helper()
	applied, err := migrations.Up(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

func downTo(t *testing.T, url string, version int64) {
	t.Helper()
	if err := migrations.DownTo(t.Context(), url, version); err != nil {
		t.Fatal(err)
	}
}

// Comments, settings of the session, who dumped it with which version, and the migrations' own table are
// no part of the schema.
var noise = regexp.MustCompile(`(?m)^(--.*|SET .*;|SELECT pg_catalog\.set_config.*;|\\(un)?restrict .*)\n`)

// dump is the schema as pg_dump writes it, without what differs between its versions.
func dump(t *testing.T, url string) string {
	t.Helper()
	dir, err := devpg.FindBinaries("")
	if err != nil {
		t.Fatal(err)
	}
	server, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")) // the directory may only link to it
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(filepath.Dir(server), "pg_dump")
	if _, err := os.Stat(tool); err != nil {
		t.Skip("this copy of Postgres comes without pg_dump, which is all that compares schemas here")
	}
	cmd := exec.CommandContext(t.Context(), tool, "--schema-only", "--no-owner", "--no-privileges",
		"--exclude-table=goose_db_version*", "--dbname", url)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	text := noise.ReplaceAllString(string(out), "")
	return strings.TrimSpace(regexp.MustCompile(`\n{2,}`).ReplaceAllString(text, "\n\n")) + "\n"
}

// dumpedBy is the major version whose pg_dump wrote schema.sql. Others word some things in their own way.
const dumpedBy = "15"

func TestTheCheckedInSchemaIsTheMigrated(t *testing.T) {
	url := pgtest.URL(t)
	if major, _, _ := strings.Cut(query(t, url, "SHOW server_version")[0], "."); major != dumpedBy {
		t.Skipf("schema.sql is compared by Postgres %s; this is %s", dumpedBy, major)
	}
	got := dump(t, url)
	if *update {
		if err := os.WriteFile("schema.sql", []byte(got), 0o644); err != nil { //nolint:gosec // a source file
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("run go generate ./migrations and review what changes:\n%s", diff)
	}
}

func TestDownTakesBackWhatUpMade(t *testing.T) {
	url := empty(t)
	before := dump(t, url)
	up(t, url)
	once := dump(t, url)
	if once == before {
		t.Fatal("up made nothing")
	}

	downTo(t, url, 0)
	if diff := cmp.Diff(before, dump(t, url)); diff != "" {
		t.Errorf("down leaves something:\n%s", diff)
	}
	up(t, url)
	if diff := cmp.Diff(once, dump(t, url)); diff != "" {
		t.Errorf("up again makes something else:\n%s", diff)
	}
}

// Each step is taken back and made again on its own, from the newest to the oldest.
func TestEveryMigrationCanBeTakenBack(t *testing.T) {
	url := empty(t)
	all := up(t, url)
	for i := len(all) - 1; i >= 0; i-- {
		before := dump(t, url)
		var below int64
		if i > 0 {
			below = all[i-1].Version
		}
		downTo(t, url, below)
		up(t, url)
		downTo(t, url, all[i].Version) // up made the newer ones, too
		if diff := cmp.Diff(before, dump(t, url)); diff != "" {
			t.Errorf("version %d:\n%s", all[i].Version, diff)
		}
		downTo(t, url, below)
	}
}

func TestManyMayMigrateAtOnce(t *testing.T) {
	url := empty(t)
	var wg sync.WaitGroup
	var applied atomic.Int64
	for range 4 {
		wg.Go(func() {
			done, err := migrations.Up(t.Context(), url)
			if err != nil {
				t.Error(err)
			}
			applied.Add(int64(len(done)))
		})
	}
	wg.Wait()
	if all := status(t, url); applied.Load() != int64(len(all)) {
		t.Errorf("%d migrations were applied %d times", len(all), applied.Load())
	}
}

func status(t *testing.T, url string) []migrations.Migration {
	t.Helper()
	all, err := migrations.Status(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("there are no migrations")
	}
	return all
}

func TestCheckAndStatusTellWhatIsPending(t *testing.T) {
	url := empty(t)
	if err := migrations.Check(t.Context(), url); !errors.Is(err, migrations.ErrPending) {
		t.Errorf("an empty database: %v", err)
	}
	for _, m := range status(t, url) {
		if !m.AppliedAt.IsZero() || m.Version == 0 || m.Name == "" {
			t.Errorf("an empty database has %+v", m)
		}
	}

	applied := up(t, url)

	if err := migrations.Check(t.Context(), url); err != nil {
		t.Errorf("a migrated database: %v", err)
	}
	all := status(t, url)
	if len(applied) != len(all) {
		t.Errorf("applied %d of %d", len(applied), len(all))
	}
	for i, m := range all {
		if m.AppliedAt.IsZero() || i > 0 && m.Version <= all[i-1].Version {
			t.Errorf("a migrated database has %+v", m)
		}
	}
	if again := up(t, url); len(again) != 0 {
		t.Errorf("applied again: %+v", again)
	}
}

func TestANewerSchemaIsFine(t *testing.T) {
	url := pgtest.URL(t)
	query(t, url, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)`)
	if err := migrations.Check(t.Context(), url); err != nil {
		t.Errorf("the schema of a newer server: %v", err)
	}
}

func TestAnUnreachableDatabaseIsAnError(t *testing.T) {
	url := "postgres://nobody@/none?host=" + t.TempDir()
	if err := migrations.Check(t.Context(), url); err == nil || errors.Is(err, migrations.ErrPending) {
		t.Errorf("Check: %v", err)
	}
	if _, err := migrations.Up(t.Context(), url); err == nil {
		t.Error("Up succeeded")
	}
}
