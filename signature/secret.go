package signature

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"
)

// The length of a secret's key, in bytes.
const (
	MinSecret = 24
	MaxSecret = 64
)

// The length of a secret that is any text, in characters; see [SecretFromText].
const (
	MinSecretText = 16
	MaxSecretText = 256
)

const (
	secretPrefix = "whsec_"
	redacted     = secretPrefix + "[redacted]"
)

// ErrSecret says that a text is no signing secret. The text is not part of the message.
var ErrSecret = errors.New("signature: not a signing secret")

// Secret is a signing secret, shared by the sender and the receiver of a webhook. Printing or logging
// one shows that it is there, not what it is; [Secret.Text] reveals it.
//
// The zero Secret is no secret: it signs nothing, and nothing verifies against it.
type Secret struct {
	// What [Secret.Stored] gives. A pointer to a string, because fmt cannot call the methods of a Secret in
	// another type's unexported field: there, and for a verb that does not fit, it prints this as an address.
	// It would follow a pointer to a slice.
	stored *string
}

// textMark begins the stored form of a secret that is kept as a text. Without it the form is the key.
const textMark = "text\x00"

// ParseSecret reads "whsec_" followed by the standard base64 (RFC 4648, padding optional) of 24 to 64
// bytes. The error is an [ErrSecret].
func ParseSecret(text string) (Secret, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return Secret{}, fmt.Errorf("%w: it does not start with %q", ErrSecret, secretPrefix)
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	padded := err == nil && encoded == base64.StdEncoding.EncodeToString(key)
	// Encoding again finds what the decoder lets pass: line breaks, stray bits, wrong padding.
	if err != nil || !padded && encoded != base64.RawStdEncoding.EncodeToString(key) {
		return Secret{}, fmt.Errorf("%w: what follows %q is not base64", ErrSecret, secretPrefix)
	}
	if len(key) < MinSecret || len(key) > MaxSecret {
		return Secret{}, fmt.Errorf("%w: it has %d bytes, not %d to %d", ErrSecret, len(key), MinSecret, MaxSecret)
	}
	if !padded {
		return stored(textMark + text), nil
	}
	return SecretFromBytes(key), nil
}

// SecretFromText makes a secret of what [ParseSecret] reads, or of any other text of 16 to 256 characters:
// for the schemes that are keyed with a secret's text, whose receivers may hold a secret of any form. The
// error is an [ErrSecret].
func SecretFromText(text string) (Secret, error) {
	if s, err := ParseSecret(text); err == nil {
		return s, nil
	}
	if n := utf8.RuneCountInString(text); n < MinSecretText || n > MaxSecretText || !utf8.ValidString(text) {
		return Secret{}, fmt.Errorf("%w: it is not a text of %d to %d characters", ErrSecret, MinSecretText, MaxSecretText)
	}
	return stored(textMark + text), nil
}

// GenerateSecret makes a secret of 32 random bytes.
func GenerateSecret() Secret {
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return SecretFromBytes(key)
}

// SecretFromBytes makes a secret of an HMAC key of whatever length. It keeps a copy. No bytes give the zero
// Secret.
func SecretFromBytes(key []byte) Secret {
	if len(key) == 0 {
		return Secret{}
	}
	if strings.HasPrefix(string(key), textMark) {
		return stored(textMark + secretPrefix + base64.StdEncoding.EncodeToString(key))
	}
	return stored(string(key))
}

// SecretFromStored makes a secret of what [Secret.Stored] gave.
func SecretFromStored(form []byte) Secret {
	if len(form) == 0 {
		return Secret{}
	}
	return stored(string(form))
}

func stored(form string) Secret { return Secret{stored: &form} }

// Stored is the secret in the form for storage: the key, or, if that alone does not tell the text, the text
// with a mark in front. It is nil for the zero Secret.
func (s Secret) Stored() []byte {
	if s.stored == nil {
		return nil
	}
	return []byte(*s.stored)
}

// Bytes is a copy of the HMAC key that [Sign] uses: what is encoded in the text, or, if nothing is, the
// text's UTF-8 bytes. It is nil for the zero Secret.
func (s Secret) Bytes() []byte {
	if s.stored == nil {
		return nil
	}
	text, ok := strings.CutPrefix(*s.stored, textMark)
	if !ok {
		return []byte(*s.stored)
	}
	if encoded, ok := strings.CutPrefix(text, secretPrefix); ok {
		if key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "=")); err == nil {
			return key
		}
	}
	return []byte(text)
}

// Text is the secret as its receiver has it: as it was given, or in the form that [ParseSecret] reads, with
// padding. It is "" for the zero Secret.
func (s Secret) Text() string {
	if s.stored == nil {
		return ""
	}
	if text, ok := strings.CutPrefix(*s.stored, textMark); ok {
		return text
	}
	return secretPrefix + base64.StdEncoding.EncodeToString([]byte(*s.stored))
}

// String hides the secret; see [Secret.Text].
func (s Secret) String() string { return redacted }

// GoString hides the secret.
func (s Secret) GoString() string { return redacted }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
