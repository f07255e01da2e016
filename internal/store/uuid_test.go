package store_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
)

func TestUUIDsGoToPostgresAndBack(t *testing.T) {
	f := openLog(t)
	a, b := uuid.New(), uuid.UUID{}
	for name, ids := range map[string][]uuid.UUID{"none": {}, "one": {a}, "several": {a, b, a}} {
		var (
			text string
			back []uuid.UUID
			n    int
		)
		err := f.QueryRow(t.Context(), `SELECT array_to_string($1::uuid[], ','), $1::uuid[], cardinality($1::uuid[])`, ids).Scan(&text, &back, &n)
		if err != nil || !slices.Equal(back, ids) || n != len(ids) {
			t.Errorf("%s: %v came back as %v, %v", name, ids, back, err)
		}
		var want string
		for i, id := range ids {
			if i > 0 {
				want += ","
			}
			want += id.String()
		}
		if text != want {
			t.Errorf("%s: Postgres read %s", name, text)
		}
	}

	if first := get[uuid.UUID](t, f, `SELECT ($1::uuid[])[1]`, []uuid.UUID{a, b}); first != a {
		t.Errorf("the first element is %s", first)
	}

	var got, kept uuid.UUID = uuid.UUID{}, a
	var null *uuid.UUID
	var valid uuid.NullUUID
	err := f.QueryRow(t.Context(), `SELECT $1::uuid, NULL::uuid, $2::uuid, $3::uuid`, a, null, uuid.NullUUID{UUID: a, Valid: true}).
		Scan(&got, &kept, &null, &valid)
	if err != nil || got != a || kept != a || null != nil || valid.UUID != a {
		t.Errorf("%v, %v, %v, %v, %v", got, kept, null, valid, err)
	}
	if isNull := get[bool](t, f, `SELECT $1::uuid[] IS NULL`, []uuid.UUID(nil)); !isNull {
		t.Error("no array at all is an array")
	}
}
