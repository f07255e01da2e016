package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestADatabaseIsMigratedAndOfItsOwn(t *testing.T) {
	one, two := pgtest.URL(t), pgtest.URL(t)
	if a, b := query[string](t, one, `SELECT current_database()`), query[string](t, two, `SELECT current_database()`); a == b {
		t.Errorf("two tests share the database %s", a)
	}
	if !query[bool](t, one, `SELECT to_regclass('goose_db_version') IS NOT NULL`) {
		t.Error("the database is not migrated")
	}
}

func TestADatabaseEndsWithItsTest(t *testing.T) {
	var name string
	t.Run("a test that leaves a connection open", func(t *testing.T) {
		url := pgtest.URL(t)
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		name = conn.Config().Database
	})

	if query[bool](t, pgtest.URL(t), `SELECT EXISTS (SELECT FROM pg_database WHERE datname = '`+name+`')`) {
		t.Errorf("the database %s outlived its test", name)
	}
}

func TestAServerOfItsOwnIsDurableAndSurvivesACrash(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		s := pgtest.Server(t, tcp)
		url := s.URL(pgtest.Database)
		for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
			if v := query[string](t, url, `SHOW `+setting); v != "on" {
				t.Errorf("tcp %v: %s is %s", tcp, setting, v)
			}
		}
		query[int](t, url, `WITH made AS (INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, true) RETURNING 1) SELECT count(*) FROM made`)

		if err := s.Crash(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}

		if n := query[int](t, url, `SELECT count(*) FROM goose_db_version WHERE version_id = 999`); n != 1 {
			t.Errorf("tcp %v: the crash lost a committed row", tcp)
		}
	}
}
