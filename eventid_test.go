package fanfare_test

import (
	"bytes"
	"cmp"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/fanfare-webhooks/fanfare"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// positions are all that fit the id: 48 bits of milliseconds, 16 of the counter. A position is signed,
// so the last half of the milliseconds, which begins in the year 6429, is out of reach.
func positions() *rapid.Generator[fanfare.Position] {
	return rapid.Map(rapid.Int64Min(0), func(n int64) fanfare.Position { return fanfare.Position(n) })
}

func TestTheOrderOfIDsIsTheOrderOfPositions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := positions().Draw(t, "p")
		q := rapid.OneOf(positions(), rapid.Just(p), rapid.Just(max(p, 1)-1)).Draw(t, "q") // near ones, too
		a := fanfare.EventID(p, rapid.Uint64().Draw(t, "tail of p"))
		b := fanfare.EventID(q, rapid.Uint64().Draw(t, "tail of q"))
		if p != q && bytes.Compare(a[:], b[:]) != cmp.Compare(p, q) {
			t.Fatalf("%d and %d have the ids %s and %s", p, q, a, b)
		}
		if p != q && cmp.Compare(a.String(), b.String()) != cmp.Compare(p, q) {
			t.Fatalf("as text: %d and %d have the ids %s and %s", p, q, a, b)
		}
	})
}

func TestAnIDGivesItsPositionBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, tail := positions().Draw(t, "p"), rapid.Uint64().Draw(t, "tail")
		id := fanfare.EventID(p, tail)
		if got := fanfare.PositionOf(id); got != p {
			t.Fatalf("the position %d of %s came back as %d", p, id, got)
		}
		if at := fanfare.EventTime(id); at.UnixMilli() != int64(p)>>16 || at.Location() != time.UTC {
			t.Fatalf("%s is of %s", id, at)
		}
	})
}

func TestAnIDIsAUUIDv7OfItsMillisecond(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, tail := positions().Draw(t, "p"), rapid.Uint64().Draw(t, "tail")
		id := fanfare.EventID(p, tail)
		if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("%s has version %d and variant %s", id, id.Version(), id.Variant())
		}
		var ms int64
		for _, b := range id[:6] {
			ms = ms<<8 | int64(b)
		}
		if ms != int64(p)>>16 {
			t.Fatalf("%s says %d ms, its position %d", id, ms, int64(p)>>16)
		}
	})
}

func TestOnlyTheTailsOwnBitsAreUsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, tail := positions().Draw(t, "p"), rapid.Uint64().Draw(t, "tail")
		const mask = 1<<fanfare.TailBits - 1
		if a, b := fanfare.EventID(p, tail), fanfare.EventID(p, tail&mask); a != b {
			t.Fatalf("bits beyond the tail make %s of %s", a, b)
		}
		other := rapid.Uint64().Draw(t, "other")
		if same := fanfare.EventID(p, tail) == fanfare.EventID(p, other); same != (tail&mask == other&mask) {
			t.Fatalf("tails %x and %x: equal ids: %v", tail, other, same)
		}
	})
}

func TestAKnownID(t *testing.T) {
	// 2026-01-02T03:04:05.006Z is 0x19b7ca98c8e ms; the counter is 0xabcd.
	at := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
	p := fanfare.PositionAt(at) + 0xabcd
	const want = "019b7ca9-8c8e-7abc-b523-456789abcdef"
	if id := fanfare.EventID(p, 0x123456789abcdef); id.String() != want {
		t.Errorf("the id is %s, want %s", id, want)
	}
	if !p.Time().Equal(at) {
		t.Errorf("the position is of %s", p.Time())
	}
}

func TestAPositionIsTheFirstOfItsMillisecond(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "µs"))
		p := fanfare.PositionAt(at)
		if !p.Time().Equal(at.Truncate(time.Millisecond)) {
			t.Fatalf("%s has the position of %s", at, p.Time())
		}
		if at.UnixMilli() > 0 && (p-1).Time() != p.Time().Add(-time.Millisecond) {
			t.Fatalf("the position before that of %s is of %s", at, (p - 1).Time())
		}
	})
}
