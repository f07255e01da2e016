package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	here   = Place{Account: uuid.UUID{1}, Object: uuid.UUID{2}, Column: "headers"}
	secret = []byte("Bearer canary-7c1d")
)

// keyText is a fixed key that differs by c.
func keyText(c byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{c}, keyBytes))
}

func ring(t testing.TB, s string) *Keyring {
	t.Helper()
	k, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestWhatIsSealedOpensInItsPlace(t *testing.T) {
	k := ring(t, "a:"+keyText(1))
	for _, plain := range [][]byte{secret, {}, bytes.Repeat([]byte{0}, 100_000)} {
		sealed := k.Seal(here, plain)
		got, err := k.Open(here, sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("opened %d bytes, %v; sealed %d", len(got), err, len(plain))
		}
		if len(plain) > 0 && bytes.Contains(sealed, plain) {
			t.Fatal("the sealed bytes hold the plain ones")
		}
	}
}

func TestTheSameBytesSealDifferentlyEachTime(t *testing.T) {
	k := ring(t, "a:"+keyText(1))
	if bytes.Equal(k.Seal(here, secret), k.Seal(here, secret)) {
		t.Fatal("two seals are equal: the nonce repeats")
	}
}

func TestSealedBytesOpenNowhereElse(t *testing.T) {
	k := ring(t, "a:"+keyText(1))
	sealed := k.Seal(here, secret)
	for name, p := range map[string]Place{
		"other account": {uuid.UUID{9}, here.Object, here.Column},
		"other object":  {here.Account, uuid.UUID{9}, here.Column},
		"other column":  {here.Account, here.Object, "secret"},
		"shifted":       {here.Account, here.Object, "header"},
	} {
		if _, err := k.Open(p, sealed); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: error %v, want ErrTampered", name, err)
		}
	}
}

func TestEveryFlippedBitAndEveryCutIsSeen(t *testing.T) {
	k := ring(t, "ab:"+keyText(1)+",ac:"+keyText(2))
	sealed := k.Seal(here, secret)
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			if _, err := k.Open(here, bad); !errors.Is(err, ErrTampered) && !errors.Is(err, ErrUnknownKey) {
				t.Fatalf("byte %d bit %d flipped: error %v", i, bit, err)
			}
		}
		if _, err := k.Open(here, sealed[:i]); !errors.Is(err, ErrTampered) {
			t.Fatalf("cut to %d bytes: error %v", i, err)
		}
	}
}

func TestRotationOpensOldAndSealsNew(t *testing.T) {
	old := ring(t, "2025:"+keyText(1))
	sealed := old.Seal(here, secret)
	both := ring(t, "2026:"+keyText(2)+", 2025:"+keyText(1))

	if got, err := both.Open(here, sealed); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("the old value: %q, %v", got, err)
	}
	if id, err := KeyID(sealed); id != "2025" || err != nil {
		t.Fatalf("old KeyID = %q, %v", id, err)
	}
	again := both.Seal(here, secret)
	if id, err := KeyID(again); id != "2026" || err != nil || both.Newest() != "2026" {
		t.Fatalf("new KeyID = %q, %v; Newest %q", id, err, both.Newest())
	}
	if _, err := old.Open(here, again); !errors.Is(err, ErrUnknownKey) {
		t.Fatalf("a ring without the key: error %v, want ErrUnknownKey", err)
	}
	sameID := ring(t, "2025:"+keyText(3))
	if _, err := sameID.Open(here, sealed); !errors.Is(err, ErrTampered) {
		t.Fatalf("another key of the same id: error %v, want ErrTampered", err)
	}
}

func TestParseNamesEveryFaultAndNoKey(t *testing.T) {
	in := strings.Join([]string{
		keyText(1),          // no id
		"a b:" + keyText(2), // id
		"ok:" + keyText(3),
		"ok:" + keyText(4),     // id again
		"x:" + keyText(3),      // key again
		"y:" + keyText(5)[:10], // no base64
		"z:c2hvcnQga2V5",       // short
		keyText(6) + ":k",      // the wrong way round
		"u:" + keyText(7)[:43], // padding missing
		"",
	}, ",")
	_, err := Parse(in)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, n := range []int{1, 2, 4, 5, 6, 7, 8, 9, 10} {
		if !strings.Contains(err.Error(), fmt.Sprintf("encryption key %d", n)) {
			t.Errorf("entry %d is not in %q", n, err)
		}
	}
	if strings.Contains(err.Error(), "encryption key 3") {
		t.Errorf("entry 3 is good, but in %q", err)
	}
	for i := byte(1); i <= 7; i++ {
		if strings.Contains(err.Error(), keyText(i)[:8]) {
			t.Errorf("the error holds key %d: %q", i, err)
		}
	}
	if strings.Contains(err.Error(), "c2hvcn") || strings.Contains(err.Error(), "short key") {
		t.Errorf("the error holds the short key: %q", err)
	}
	if _, err := Parse(""); err == nil {
		t.Error("an empty ring was accepted")
	}
}

func TestGenerateMakesWhatParseReads(t *testing.T) {
	a, err := Generate("dev")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := Generate("dev")
	if a == b {
		t.Fatal("two generated keys are equal")
	}
	if ring(t, a).Newest() != "dev" {
		t.Fatal("the id is lost")
	}
	for _, id := range []string{"", "a:b", "a,b", "é", strings.Repeat("x", 33)} {
		if _, err := Generate(id); err == nil {
			t.Errorf("id %q was accepted", id)
		}
	}
}

func TestAKeyringPrintsNoKey(t *testing.T) {
	k := ring(t, "a:"+base64.StdEncoding.EncodeToString([]byte("canary-canary-canary-canary-cana")))
	type holder struct {
		Public  Keyring
		private Keyring
		Ptr     *Keyring
	}
	var out strings.Builder
	for _, v := range []any{k, *k, holder{*k, *k, k}, &holder{*k, *k, k}, []any{k, *k}} {
		fmt.Fprintf(&out, "%v %+v %#v %s %q %x %d\n", v, v, v, v, v, v, v)
		j, _ := json.Marshal(v)
		out.Write(j)
		slog.New(slog.NewTextHandler(&out, nil)).Info("t", "k", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("t", "k", v)
	}
	for _, bad := range []string{
		"canary", hex.EncodeToString([]byte("canary")), "Y2FuYXJ5", "99 97 110 97", "0x63, 0x61, 0x6e",
	} {
		if strings.Contains(strings.ToLower(out.String()), strings.ToLower(bad)) {
			t.Errorf("printed %q:\n%s", bad, out.String())
		}
	}
	if got := k.String(); got != "seal.Keyring(a)" {
		t.Errorf("String() = %q", got)
	}
}

func FuzzOpen(f *testing.F) {
	k := ring(f, "a:"+keyText(1))
	f.Add(k.Seal(here, secret))
	f.Add([]byte{1, 1, 'a'})
	f.Add([]byte{1, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, err := k.Open(here, b)
		if err == nil && !bytes.Equal(plain, secret) {
			t.Fatalf("forged %x opens as %q", b, plain)
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	k := ring(b, "a:"+keyText(1))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open(here, k.Seal(here, secret)); err != nil {
			b.Fatal(err)
		}
	}
}
