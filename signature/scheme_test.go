package signature_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfare-webhooks/fanfare/signature"
)

func text(secret string) signature.Secret {
	s, err := signature.SecretFromText(secret)
	if err != nil {
		panic(err)
	}
	return s
}

var plainScheme = signature.Scheme{Algorithm: signature.HMACSHA256, Header: "X-Signature"}

// Others' vectors: GitHub's documentation ("Validating webhook deliveries"), RFC 4231 (test case 1), and, for
// what has none, OpenSSL: printf 1614265330.BODY | openssl dgst -sha256 -hmac SECRET
func TestSchemesGiveWhatOthersGive(t *testing.T) {
	at := time.Unix(vectorSeconds, 0)
	rfc := text(strings.Repeat("\x0b", 20))
	for _, test := range []struct {
		name   string
		scheme signature.Scheme
		secret signature.Secret
		body   string
		want   map[string]string
	}{
		{
			"standard",
			signature.Scheme{Algorithm: signature.Standard},
			vectorSecret, vectorBody,
			map[string]string{"webhook-id": vectorID, "webhook-timestamp": "1614265330", "webhook-signature": vectorSignature},
		},
		{
			"the zero scheme",
			signature.Scheme{},
			vectorSecret, vectorBody,
			map[string]string{"webhook-id": vectorID, "webhook-timestamp": "1614265330", "webhook-signature": vectorSignature},
		},
		{
			"GitHub", signature.GitHub(), text("It's a Secret to Everybody"), "Hello, World!",
			map[string]string{"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
		},
		{
			"RFC 4231, SHA-256", plainScheme, rfc, "Hi There",
			map[string]string{"X-Signature": "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		},
		{
			"RFC 4231, SHA-512",
			signature.Scheme{Algorithm: signature.HMACSHA512, Header: "X-S", Encoding: signature.Base64},
			rfc, "Hi There",
			map[string]string{"X-S": "h6p83qXvYZ1P8LQkGh1ssCN59OLOTsJ4etCzBUXhfN7aqDO31rinAgOLJ06uo/Tkvp2RTuth8XAuaWwgOhJoVA=="},
		},
		{
			"Stripe", signature.Stripe(), vectorSecret, vectorBody,
			map[string]string{"Stripe-Signature": "t=1614265330,v1=2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964"},
		},
		{
			"a header for the time",
			signature.Scheme{
				Algorithm: signature.HMACSHA256, Header: "X-Signature", Prefix: "v0=", Timestamp: &signature.Timestamp{Header: "X-Time"},
			},
			vectorSecret, vectorBody,
			map[string]string{"X-Time": "1614265330", "X-Signature": "v0=2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := maps.Collect(test.scheme.Headers(vectorID, at, []byte(test.body), test.secret))
			if !maps.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			h := http.Header{}
			test.scheme.SetHeaders(h, vectorID, at, []byte(test.body), test.secret)
			if err := test.scheme.Verify(h, []byte(test.body), at, test.secret); err != nil {
				t.Error(err)
			}
		})
	}
}

// schemes are those that are not Standard, one of each kind.
var schemes = map[string]signature.Scheme{
	"plain":  plainScheme,
	"base64": {Algorithm: signature.HMACSHA512, Header: "X-Signature", Encoding: signature.Base64},
	"GitHub": signature.GitHub(),
	"Stripe": signature.Stripe(),
	"a header for the time": {
		Algorithm: signature.HMACSHA256, Header: "X-Signature", Encoding: signature.Hex, Timestamp: &signature.Timestamp{Header: "X-Time"},
	},
}

func TestSchemesRefuse(t *testing.T) {
	at, secret := time.Unix(vectorSeconds, 0), signature.GenerateSecret()
	for name, scheme := range schemes {
		t.Run(name, func(t *testing.T) {
			signed := http.Header{}
			scheme.SetHeaders(signed, vectorID, at, []byte(vectorBody), secret)
			if err := scheme.Verify(signed, []byte(vectorBody), at, signature.GenerateSecret(), secret); err != nil {
				t.Fatal(err)
			}
			value := signed.Get(scheme.Header)
			other := func(value string) http.Header {
				h := signed.Clone()
				h.Set(scheme.Header, value)
				return h
			}
			for _, test := range []struct {
				name    string
				header  http.Header
				body    string
				secrets []signature.Secret
				want    error
			}{
				{"nothing", http.Header{}, vectorBody, []signature.Secret{secret}, signature.ErrMissingHeader},
				{"another body", signed, vectorBody + " ", []signature.Secret{secret}, signature.ErrSignature},
				{"another secret", signed, vectorBody, []signature.Secret{signature.GenerateSecret()}, signature.ErrSignature},
				{"no secret", signed, vectorBody, nil, signature.ErrSignature},
				{"the zero secret", signed, vectorBody, make([]signature.Secret, 1), signature.ErrSignature},
				{"part of it", other(value[:len(value)-1]), vectorBody, []signature.Secret{secret}, signature.ErrSignature},
				{"more than it", other(value + "0"), vectorBody, []signature.Secret{secret}, signature.ErrSignature},
				{"another prefix", other(strings.Replace(value, scheme.Prefix, "x", 1)), vectorBody, []signature.Secret{secret}, nil},
			} {
				err := scheme.Verify(test.header, []byte(test.body), at, test.secrets...)
				if err == nil || test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("%s: %v", test.name, err)
				}
			}
		})
	}
}

// A receiver whose secret is not set must not accept what anybody can make: an HMAC with an empty key.
func TestAnEmptyKeyIsNoKey(t *testing.T) {
	mac := hmac.New(sha256.New, nil)
	mac.Write([]byte(vectorBody))
	forged := http.Header{"X-Signature": {hex.EncodeToString(mac.Sum(nil))}}
	if err := plainScheme.Verify(forged, []byte(vectorBody), time.Now(), signature.Secret{}); !errors.Is(err, signature.ErrSignature) {
		t.Error(err)
	}
}

func TestASignedTimeIsCheckedAndAnUnsignedOneIsNot(t *testing.T) {
	at, secret := time.Unix(vectorSeconds, 0), signature.GenerateSecret()
	for name, scheme := range schemes {
		h := http.Header{}
		scheme.SetHeaders(h, vectorID, at, []byte(vectorBody), secret)
		for _, late := range []time.Duration{signature.Tolerance + time.Second, -signature.Tolerance - time.Second} {
			err := scheme.Verify(h, []byte(vectorBody), at.Add(late), secret)
			if scheme.Timestamp == nil && err != nil || scheme.Timestamp != nil && !errors.Is(err, signature.ErrTimestamp) {
				t.Errorf("%s, %v late: %v", name, late, err)
			}
		}
		if scheme.Timestamp == nil {
			continue
		}
		// The time is part of what is signed: another one does not do.
		for _, values := range h {
			values[0] = strings.Replace(values[0], "1614265330", "1614265331", 1)
		}
		if err := scheme.Verify(h, []byte(vectorBody), at, secret); !errors.Is(err, signature.ErrSignature) {
			t.Errorf("%s, another time: %v", name, err)
		}
		for _, values := range h {
			values[0] = strings.Replace(values[0], "1614265331", "", 1)
		}
		err := scheme.Verify(h, []byte(vectorBody), at, secret)
		if !errors.Is(err, signature.ErrTimestamp) && !errors.Is(err, signature.ErrMissingHeader) {
			t.Errorf("%s, no time: %v", name, err)
		}
	}
}

// While a secret is being replaced: who holds the old one accepts every request, and so does who holds both;
// who holds only the new one accepts those whose header has room for two.
func TestSeveralSecrets(t *testing.T) {
	at, older, newer := time.Unix(vectorSeconds, 0), signature.GenerateSecret(), signature.GenerateSecret()
	all := maps.Clone(schemes)
	all["standard"] = signature.Scheme{}
	for name, scheme := range all {
		h := http.Header{}
		scheme.SetHeaders(h, vectorID, at, []byte(vectorBody), newer, signature.Secret{}, older)
		for _, holds := range [][]signature.Secret{{older}, {newer, older}, {older, newer}} {
			if err := scheme.Verify(h, []byte(vectorBody), at, holds...); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		several := scheme.Algorithm == "" || scheme.Timestamp != nil && scheme.Timestamp.Prefix != ""
		if err := scheme.Verify(h, []byte(vectorBody), at, newer); (err == nil) != several {
			t.Errorf("%s, the newer one: %v", name, err)
		}
		for range scheme.Headers(vectorID, at, nil, signature.Secret{}) {
			t.Errorf("%s: a header without a secret", name)
		}
		for range scheme.Headers(vectorID, at, nil, newer) {
			break // whoever has seen enough may stop
		}
	}
}

func TestASchemeIsReadAsItIsWritten(t *testing.T) {
	for name, scheme := range schemes {
		b, err := json.Marshal(scheme)
		if err != nil {
			t.Fatal(err)
		}
		var again signature.Scheme
		if err := json.Unmarshal(b, &again); err != nil || !reflect.DeepEqual(scheme, again) {
			t.Errorf("%s: %s gave %+v, %v", name, b, again, err)
		}
	}
	for _, wrong := range []string{`{"scheme":"md5"}`, `{"scheme":"hmac-sha256","encoding":"base32"}`, `{"scheme":""}`} {
		if err := json.Unmarshal([]byte(wrong), new(signature.Scheme)); err == nil {
			t.Errorf("%s was read", wrong)
		}
	}
}

func TestWhatASchemeSignsItVerifies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scheme := signature.Scheme{
			Algorithm: rapid.SampledFrom([]signature.Algorithm{"", signature.Standard, signature.HMACSHA256, signature.HMACSHA512}).Draw(t, "algorithm"),
			Header:    "X-Signature",
			Encoding:  rapid.SampledFrom([]signature.Encoding{"", signature.Hex, signature.Base64}).Draw(t, "encoding"),
			Prefix:    rapid.StringMatching(`[!-+\--~]{0,10}`).Draw(t, "prefix"), // visible, but for the comma
			Timestamp: rapid.SampledFrom([]*signature.Timestamp{nil, {Header: "X-Time"}, {Prefix: "t="}, {Prefix: "time"}}).Draw(t, "timestamp"),
		}
		secret := text(rapid.StringN(signature.MinSecretText, signature.MaxSecretText, -1).Draw(t, "secret"))
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		h := http.Header{}
		scheme.SetHeaders(h, "id", time.Unix(vectorSeconds, 0), body, secret)
		if err := scheme.Verify(h, body, time.Unix(vectorSeconds, 0), secret); err != nil {
			t.Fatalf("%v: %v", h, err)
		}
		if len(body) > 0 {
			body[0]++
			if err := scheme.Verify(h, body, time.Unix(vectorSeconds, 0), secret); err == nil {
				t.Fatalf("%v: another body passes", h)
			}
		}
	})
}

// What Stripe's scheme accepts is signed, at a time that counts, by one that knows the secret.
func FuzzSchemeVerify(f *testing.F) {
	scheme, secret := signature.Stripe(), text("It's a Secret to Everybody")
	signed := func(seconds string, body []byte) string {
		mac := hmac.New(sha256.New, []byte(secret.Text()))
		mac.Write(append([]byte(seconds+"."), body...))
		return "v1=" + hex.EncodeToString(mac.Sum(nil))
	}
	f.Add("t=1614265330,"+signed("1614265330", []byte(vectorBody)), []byte(vectorBody))
	f.Add("t=1614265330,v1=00,"+signed("1614265330", nil)+",v0=", []byte(nil))
	f.Add("t=1614265330,t=1614265331,"+signed("1614265331", nil), []byte(nil))
	f.Add(",t=,v1=,", []byte(nil))
	f.Fuzz(func(t *testing.T, value string, body []byte) {
		h := http.Header{"Stripe-Signature": {value}}
		first, rest, _ := strings.Cut(value, ",")
		seconds := strings.TrimPrefix(first, "t=")
		good := slices.Contains(strings.Split(rest, ","), signed(seconds, body)) && seconds != first
		n, err := strconv.ParseInt(seconds, 10, 64)
		good = good && err == nil
		if err := scheme.Verify(h, body, time.Unix(n, 0), secret); (err == nil) != good {
			t.Errorf("%v, signed as it must be: %v", err, good)
		}
	})
}
