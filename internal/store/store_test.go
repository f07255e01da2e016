package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

func TestUnreachableTellsTroubleFromRefusal(t *testing.T) {
	code := func(code string) error { return fmt.Errorf("record: %w", &pgconn.PgError{Code: code}) }
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nothing":                     {nil, false},
		"ended by an operator":        {code("57P01"), true},
		"a statement timeout":         {code("57014"), true},
		"starting up":                 {code("57P03"), true},
		"too many connections":        {code("53300"), true},
		"a full disk":                 {code("53100"), true},
		"an I/O error":                {code("58030"), true},
		"a deadlock":                  {code("40P01"), true},
		"a lock timeout":              {code("55P03"), true},
		"a standby":                   {code("25006"), true},
		"no such partition":           {code("23514"), false},
		"text that is no UTF-8":       {code("22021"), false},
		"a unique violation":          {code("23505"), false},
		"no such column":              {code("42703"), false},
		"a closed connection":         {fmt.Errorf("record: %w", io.EOF), true},
		"a connection closed midways": {fmt.Errorf("record: %w", io.ErrUnexpectedEOF), true},
		"a broken pipe":               {fmt.Errorf("record: %w", &net.OpError{Op: "write", Err: errors.New("broken pipe")}), true},
		"a deadline":                  {fmt.Errorf("record: %w", context.DeadlineExceeded), true},
		"a cancelled call":            {fmt.Errorf("record: %w", context.Canceled), true},
		"a value that cannot be sent": {errors.New("unable to encode"), false},
	} {
		if got := store.Unreachable(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAClosedStoreIsUnreachable(t *testing.T) {
	f := openLog(t)
	s := f.another(t)
	s.Close()
	if err := s.Ping(t.Context()); !store.Unreachable(err) {
		t.Error(err)
	}
}

func TestAPostgresThatForgetsIsRefused(t *testing.T) {
	t.Parallel()
	f := openLog(t) // the tests' server runs with fsync=off
	if _, err := f.CheckDurable(t.Context()); err == nil {
		t.Error("fsync=off passes as durable")
	}

	f.url = pgtest.Server(t, false).URL(pgtest.Database)
	if warning, err := f.another(t).CheckDurable(t.Context()); warning != "" || err != nil {
		t.Errorf("a durable server: %q, %v", warning, err)
	}
}
