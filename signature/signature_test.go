package signature_test

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	oracle "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"pgregory.net/rapid"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// The vector that Standard Webhooks' own libraries are tested with.
const (
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorSeconds   = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

var vectorSecret = mustParse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

func mustParse(text string) signature.Secret {
	secret, err := signature.ParseSecret(text)
	if err != nil {
		panic(err)
	}
	return secret
}

func vectorHeader() http.Header {
	h := http.Header{}
	h.Set(signature.HeaderID, vectorID)
	h.Set(signature.HeaderTimestamp, strconv.Itoa(vectorSeconds))
	h.Set(signature.HeaderSignature, vectorSignature)
	return h
}

func TestPublishedVector(t *testing.T) {
	at := time.Unix(vectorSeconds, 0)
	if got := signature.Sign(vectorID, at, []byte(vectorBody), vectorSecret); got != vectorSignature {
		t.Errorf("Sign gave %q", got)
	}
	if err := signature.Verify(vectorHeader(), []byte(vectorBody), at, vectorSecret); err != nil {
		t.Errorf("Verify: %v", err)
	}
}

func TestSetHeadersMakesWhatVerifyAccepts(t *testing.T) {
	h := http.Header{"Webhook-Signature": {"v1,old"}}
	signature.SetHeaders(h, vectorID, time.Unix(vectorSeconds, 999_999_999), []byte(vectorBody), vectorSecret)
	if want := vectorHeader(); !maps.EqualFunc(h, want, func(a, b []string) bool { return strings.Join(a, "|") == strings.Join(b, "|") }) {
		t.Errorf("got %v, want %v", h, want)
	}
}

func TestAppendSignKeepsWhatIsThere(t *testing.T) {
	a, b := signature.GenerateSecret(), signature.GenerateSecret()
	at, body := time.Unix(vectorSeconds, 0), []byte(vectorBody)
	want := "before " + signature.Sign(vectorID, at, body, a) + " " + signature.Sign(vectorID, at, body, b)
	for _, spare := range []int{0, 10, 60, 1000} {
		dst := append(make([]byte, 0, len("before ")+spare), "before "...)
		if got := signature.AppendSign(dst, vectorID, at, body, a, b); string(got) != want {
			t.Errorf("%d bytes to spare: got %q, want %q", spare, got, want)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	at := time.Unix(vectorSeconds, 0)
	set := func(name, value string) func(http.Header) {
		return func(h http.Header) { h.Set(name, value) }
	}
	for _, test := range []struct {
		name   string
		change func(http.Header)
		body   string
		now    time.Time
		secret signature.Secret
		want   error
	}{
		{name: "no id", change: func(h http.Header) { h.Del(signature.HeaderID) }, want: signature.ErrMissingHeader},
		{name: "no timestamp", change: func(h http.Header) { h.Del(signature.HeaderTimestamp) }, want: signature.ErrMissingHeader},
		{name: "no signature", change: func(h http.Header) { h.Del(signature.HeaderSignature) }, want: signature.ErrMissingHeader},
		{name: "another body", body: `{"test": 2432232315}`, want: signature.ErrSignature},
		{name: "a longer body", body: vectorBody + "\n", want: signature.ErrSignature},
		{name: "another id", change: set(signature.HeaderID, "msg_other"), want: signature.ErrSignature},
		{name: "another timestamp", change: set(signature.HeaderTimestamp, "1614265331"), want: signature.ErrSignature},
		{name: "the same timestamp otherwise written", change: set(signature.HeaderTimestamp, "+1614265330"), want: signature.ErrSignature},
		{name: "another secret", secret: signature.GenerateSecret(), want: signature.ErrSignature},
		{name: "an unknown version", change: set(signature.HeaderSignature, "v1a"+vectorSignature[2:]), want: signature.ErrSignature},
		{name: "no version", change: set(signature.HeaderSignature, vectorSignature[3:]), want: signature.ErrSignature},
		{name: "part of a signature", change: set(signature.HeaderSignature, vectorSignature[:20]), want: signature.ErrSignature},
		{name: "an empty signature", change: set(signature.HeaderSignature, "v1,"), want: signature.ErrSignature},
		{name: "too old", now: at.Add(signature.Tolerance + time.Nanosecond), want: signature.ErrTimestamp},
		{name: "too new", now: at.Add(-signature.Tolerance - time.Nanosecond), want: signature.ErrTimestamp},
		{name: "no number", change: set(signature.HeaderTimestamp, "soon"), want: signature.ErrTimestamp},
		{name: "milliseconds", change: set(signature.HeaderTimestamp, "1614265330000"), want: signature.ErrTimestamp},
		{name: "the largest number", change: set(signature.HeaderTimestamp, "9223372036854775807"), want: signature.ErrTimestamp},
		{name: "the smallest number", change: set(signature.HeaderTimestamp, "-9223372036854775808"), want: signature.ErrTimestamp},
		{name: "too large a number", change: set(signature.HeaderTimestamp, "9223372036854775808"), want: signature.ErrTimestamp},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, body, now, secret := vectorHeader(), vectorBody, at, vectorSecret
			if test.change != nil {
				test.change(h)
			}
			if test.body != "" {
				body = test.body
			}
			if !test.now.IsZero() {
				now = test.now
			}
			if test.secret != (signature.Secret{}) {
				secret = test.secret
			}
			if err := signature.Verify(h, []byte(body), now, secret); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestVerifyAcceptsUpToTheTolerance(t *testing.T) {
	at := time.Unix(vectorSeconds, 0)
	for _, now := range []time.Time{at.Add(-signature.Tolerance), at.Add(signature.Tolerance)} {
		if err := signature.Verify(vectorHeader(), []byte(vectorBody), now, vectorSecret); err != nil {
			t.Errorf("at %v: %v", now.Sub(at), err)
		}
	}
}

// A signed body that begins like a timestamp must not become a shorter body with another timestamp.
func TestVerifyRefusesAMovedBoundary(t *testing.T) {
	secret, at := signature.GenerateSecret(), time.Unix(vectorSeconds, 0)
	h := http.Header{}
	signature.SetHeaders(h, "msg", at, []byte("1614265999.{}"), secret)
	h.Set(signature.HeaderID, "msg.1614265330")
	h.Set(signature.HeaderTimestamp, "1614265999")
	if err := signature.Verify(h, []byte("{}"), time.Unix(1614265999, 0), secret); !errors.Is(err, signature.ErrSignature) {
		t.Errorf("got %v", err)
	}
}

func TestVerifyWithoutSecretsRefuses(t *testing.T) {
	at := time.Unix(vectorSeconds, 0)
	// What an empty HMAC key would give.
	empty, err := oracle.NewWebhookRaw(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := empty.Sign(vectorID, at, []byte(vectorBody))
	if err != nil {
		t.Fatal(err)
	}
	h := vectorHeader()
	h.Set(signature.HeaderSignature, forged)
	for _, secrets := range [][]signature.Secret{nil, {{}}, {signature.SecretFromBytes([]byte{})}} {
		if err := signature.Verify(h, []byte(vectorBody), at, secrets...); !errors.Is(err, signature.ErrSignature) {
			t.Errorf("%d secrets: got %v", len(secrets), err)
		}
		if got := signature.Sign(vectorID, at, []byte(vectorBody), secrets...); got != "" {
			t.Errorf("%d secrets: signed %q", len(secrets), got)
		}
	}
}

// While a secret is replaced each side may hold the old one, the new one or both.
func TestVerifyDuringRotation(t *testing.T) {
	before, after, other := signature.GenerateSecret(), signature.GenerateSecret(), signature.GenerateSecret()
	type secrets = []signature.Secret
	at, body := time.Unix(vectorSeconds, 0), []byte(vectorBody)
	for _, test := range []struct {
		name           string
		sender, holder secrets
		want           error
	}{
		{"both, old", secrets{after, before}, secrets{before}, nil},
		{"both, new", secrets{after, before}, secrets{after}, nil},
		{"both, both", secrets{after, before}, secrets{before, after}, nil},
		{"old, both", secrets{before}, secrets{after, before}, nil},
		{"both, other", secrets{after, before}, secrets{other}, signature.ErrSignature},
		{"new, old", secrets{after}, secrets{before}, signature.ErrSignature},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{}
			signature.SetHeaders(h, vectorID, at, body, test.sender...)
			h.Set(signature.HeaderSignature, "v1a,ed25519 "+h.Get(signature.HeaderSignature)+" v2,later")
			if err := signature.Verify(h, body, at, test.holder...); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// drawn is a request as a sender may make it.
type drawn struct {
	secret signature.Secret
	id     string
	at     time.Time
	body   []byte
}

func draw(t *rapid.T) drawn {
	return drawn{
		secret: signature.SecretFromBytes(rapid.SliceOfN(rapid.Byte(), signature.MinSecret, signature.MaxSecret).Draw(t, "key")),
		id:     rapid.StringMatching(`[!-\-/-~]{1,64}`).Draw(t, "id"),
		at:     time.Unix(rapid.Int64Range(0, 1<<35).Draw(t, "at"), 0),
		body:   rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "body"),
	}
}

func TestAnotherImplementationAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		theirs, err := oracle.NewWebhook(d.secret.Text())
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		signature.SetHeaders(h, d.id, d.at, d.body, signature.GenerateSecret(), d.secret)
		if err := theirs.VerifyIgnoringTimestamp(d.body, h); err != nil {
			t.Fatalf("they refuse what we sign: %v", err)
		}
		signed, err := theirs.Sign(d.id, d.at, d.body)
		if err != nil {
			t.Fatal(err)
		}
		h.Set(signature.HeaderSignature, signed)
		if err := signature.Verify(h, d.body, d.at, d.secret); err != nil {
			t.Fatalf("we refuse what they sign: %v", err)
		}
	})
}

func TestAChangedByteIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		d.body = append(d.body, '!')
		h := http.Header{}
		signature.SetHeaders(h, d.id, d.at, d.body, d.secret)
		change := func(b []byte) []byte {
			b = bytes.Clone(b)
			b[rapid.IntRange(0, len(b)-1).Draw(t, "place")] ^= byte(rapid.IntRange(1, 255).Draw(t, "change"))
			return b
		}
		body, secret := d.body, d.secret
		switch rapid.IntRange(0, 3).Draw(t, "part") {
		case 0:
			body = change(body)
		case 1:
			secret = signature.SecretFromBytes(change(secret.Bytes()))
		case 2:
			h.Set(signature.HeaderID, string(change([]byte(d.id))))
		case 3:
			h.Set(signature.HeaderTimestamp, strconv.FormatInt(d.at.Unix()+1, 10))
		}
		if err := signature.Verify(h, body, d.at, secret); !errors.Is(err, signature.ErrSignature) {
			t.Fatalf("got %v", err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	f.Add(vectorID, strconv.Itoa(vectorSeconds), vectorSignature, []byte(vectorBody))
	theirs, err := oracle.NewWebhookRaw(vectorSecret.Bytes())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id, timestamp, signatures string, body []byte) {
		h := http.Header{}
		h.Set(signature.HeaderID, id)
		h.Set(signature.HeaderTimestamp, timestamp)
		h.Set(signature.HeaderSignature, signatures)
		seconds, _ := strconv.ParseInt(timestamp, 10, 64)
		err := signature.Verify(h, body, time.Unix(seconds, 0), vectorSecret)
		switch {
		case err == nil:
			if err := theirs.VerifyIgnoringTimestamp(body, h); err != nil {
				t.Errorf("we accept what they refuse: %v", err)
			}
		case errors.Is(err, signature.ErrMissingHeader), errors.Is(err, signature.ErrTimestamp):
		case errors.Is(err, signature.ErrSignature):
			if timestamp == strconv.FormatInt(seconds, 10) && !strings.Contains(id, ".") &&
				theirs.VerifyIgnoringTimestamp(body, h) == nil && !strings.Contains(signatures, "=,") {
				t.Error("we refuse what they accept")
			}
		default:
			t.Errorf("an error of no kind: %v", err)
		}
	})
}

func BenchmarkAppendSign(b *testing.B) {
	secret, at := signature.GenerateSecret(), time.Now()
	for _, size := range []int{256, 4096, 65536} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			body := make([]byte, size)
			dst := make([]byte, 0, 128)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				dst = signature.AppendSign(dst[:0], vectorID, at, body, secret)
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	h, body, at := vectorHeader(), []byte(vectorBody), time.Unix(vectorSeconds, 0)
	b.ReportAllocs()
	for b.Loop() {
		if err := signature.Verify(h, body, at, vectorSecret); err != nil {
			b.Fatal(err)
		}
	}
}
