package signature_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fanfare-webhooks/fanfare/signature"
)

func TestParseSecretReadsItsOwnText(t *testing.T) {
	for _, n := range []int{signature.MinSecret, 25, 26, 32, signature.MaxSecret} {
		key := bytes.Repeat([]byte{0xfb}, n)
		text := "whsec_" + base64.StdEncoding.EncodeToString(key)
		for _, given := range []string{text, strings.TrimRight(text, "=")} {
			secret, err := signature.ParseSecret(given)
			if err != nil {
				t.Fatalf("%q: %v", given, err)
			}
			if !bytes.Equal(secret.Bytes(), key) || secret.Text() != given {
				t.Errorf("%q: got %x, %q", given, secret.Bytes(), secret.Text())
			}
		}
	}
}

func TestATextIsASecretAsItIs(t *testing.T) {
	for name, text := range map[string]string{
		"any text":            "It's a Secret to Everybody",
		"the shortest":        strings.Repeat("é", signature.MinSecretText),
		"the longest":         strings.Repeat("é", signature.MaxSecretText),
		"base64":              base64.StdEncoding.EncodeToString(make([]byte, 30)),
		"the prefix, not it":  "whsec_of_mine_and_yours",
		"a secret":            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
		"one without padding": "whsec_" + strings.TrimRight(base64.StdEncoding.EncodeToString(make([]byte, 25)), "="),
		"the mark":            "text\x00text\x00text\x00text\x00",
	} {
		t.Run(name, func(t *testing.T) {
			secret, err := signature.SecretFromText(text)
			if err != nil {
				t.Fatal(err)
			}
			again := signature.SecretFromStored(secret.Stored())
			if secret.Text() != text || again.Text() != text {
				t.Errorf("got %q, stored %q", secret.Text(), again.Text())
			}
			want := []byte(text)
			if parsed, err := signature.ParseSecret(text); err == nil {
				want = parsed.Bytes()
			}
			if !bytes.Equal(secret.Bytes(), want) || !bytes.Equal(again.Bytes(), want) {
				t.Errorf("the key is %q, stored %q", secret.Bytes(), again.Bytes())
			}
		})
	}
	for name, text := range map[string]string{
		"nothing": "", "too short": strings.Repeat("é", 15), "too long": strings.Repeat("a", 257), "not UTF-8": strings.Repeat("\xff", 20),
	} {
		if secret, err := signature.SecretFromText(text); !errors.Is(err, signature.ErrSecret) || secret.Stored() != nil {
			t.Errorf("%s: got %q, %v", name, secret.Text(), err)
		}
	}
}

// Whatever is a key is the same key again, also one that looks like the other stored form.
func TestAKeyIsStoredAsItIs(t *testing.T) {
	for _, key := range []string{strings.Repeat("k", 24), "text\x00and what follows it", "text\x00whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"} {
		secret := signature.SecretFromBytes([]byte(key))
		again := signature.SecretFromStored(secret.Stored())
		text := "whsec_" + base64.StdEncoding.EncodeToString([]byte(key))
		if string(again.Bytes()) != key || again.Text() != text || secret.Text() != text {
			t.Errorf("%q: got %q, %q", key, again.Bytes(), again.Text())
		}
	}
	// What was stored before there were texts.
	if old := signature.SecretFromStored([]byte(strings.Repeat("k", 32))); string(old.Bytes()) != strings.Repeat("k", 32) {
		t.Errorf("got %q", old.Bytes())
	}
}

func TestParseSecretRefuses(t *testing.T) {
	encode := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for name, text := range map[string]string{
		"nothing":          "",
		"no prefix":        encode(32),
		"another prefix":   "whpk_" + encode(32),
		"only the prefix":  "whsec_",
		"too short":        "whsec_" + encode(23),
		"too long":         "whsec_" + encode(65),
		"not base64":       "whsec_" + strings.Repeat("!", 40),
		"URL alphabet":     "whsec_" + strings.Repeat("_-", 20),
		"a line break":     "whsec_" + encode(32)[:20] + "\n" + encode(32)[20:],
		"a trailing space": "whsec_" + encode(32) + " ",
		"half its padding": "whsec_" + strings.TrimSuffix(encode(25), "="),
		"too much padding": "whsec_" + encode(24) + "=",
		"stray bits":       "whsec_" + strings.TrimSuffix(encode(25), "A==") + "B==",

		"a line break, no padding": "whsec_" + encode(24)[:20] + "\r\n" + encode(24)[20:],
		"stray bits, no padding":   "whsec_" + strings.TrimSuffix(encode(25), "A==") + "B",
	} {
		t.Run(name, func(t *testing.T) {
			secret, err := signature.ParseSecret(text)
			if !errors.Is(err, signature.ErrSecret) {
				t.Errorf("got %q, %v", secret.Text(), err)
			}
			if len(text) > 10 && err != nil && strings.Contains(err.Error(), text[6:]) {
				t.Errorf("the error shows the text: %v", err)
			}
		})
	}
}

func TestGeneratedSecretsDiffer(t *testing.T) {
	a, b := signature.GenerateSecret(), signature.GenerateSecret()
	if len(a.Bytes()) != 32 || bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("got %x and %x", a.Bytes(), b.Bytes())
	}
}

func TestSecretSharesNoMemory(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	secret := signature.SecretFromBytes(key)
	text := secret.Text()
	clear(key)
	clear(secret.Bytes())
	if secret.Text() != text {
		t.Error("the secret changed with bytes of its caller")
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	key := []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345")
	secret := signature.SecretFromBytes(key)
	text, err := signature.SecretFromText("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	if err != nil {
		t.Fatal(err)
	}
	type exported struct{ Secret signature.Secret }
	type unexported struct{ secret signature.Secret }

	var out bytes.Buffer
	for _, value := range []any{
		secret, &secret, exported{secret}, unexported{secret}, []signature.Secret{secret}, text, unexported{text}, []signature.Secret{text},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%U"} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		slog.New(slog.NewTextHandler(&out, nil)).Info("text", "value", value)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "value", value)
	}

	printed := strings.ToUpper(out.String())
	for _, leak := range []string{"ABCDEF", secret.Text()[6:], "414243", "65 66 67", "0X41, 0X42", "A B C", "U+0041"} {
		if strings.Contains(printed, strings.ToUpper(leak)) {
			t.Errorf("%q is in what was printed", leak)
		}
	}
	if !strings.Contains(out.String(), "whsec_[redacted]") {
		t.Error("nothing says that there is a secret")
	}
}

func TestZeroSecretIsNone(t *testing.T) {
	var zero signature.Secret
	if zero.Text() != "" || zero.Bytes() != nil || zero.Stored() != nil || signature.SecretFromBytes(nil) != zero ||
		signature.SecretFromStored(nil) != zero {
		t.Errorf("got %q, %x", zero.Text(), zero.Bytes())
	}
}
