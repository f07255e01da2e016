package signature

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// The length of a secret's key, in bytes.
const (
	MinSecret = 24
	MaxSecret = 64
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
	// A pointer to a string, because fmt cannot call the methods of a Secret in another type's
	// unexported field: there, and for a verb that does not fit, it prints this as an address. It would
	// follow a pointer to a slice.
	key *string
}

// ParseSecret reads "whsec_" followed by the standard base64 (RFC 4648, padding optional) of 24 to 64
// bytes. The error is an [ErrSecret].
func ParseSecret(text string) (Secret, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return Secret{}, fmt.Errorf("%w: it does not start with %q", ErrSecret, secretPrefix)
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	// Encoding again finds what the decoder lets pass: line breaks, stray bits, wrong padding.
	if err != nil || (encoded != base64.StdEncoding.EncodeToString(key) && encoded != base64.RawStdEncoding.EncodeToString(key)) {
		return Secret{}, fmt.Errorf("%w: what follows %q is not base64", ErrSecret, secretPrefix)
	}
	if len(key) < MinSecret || len(key) > MaxSecret {
		return Secret{}, fmt.Errorf("%w: it has %d bytes, not %d to %d", ErrSecret, len(key), MinSecret, MaxSecret)
	}
	return SecretFromBytes(key), nil
}

// GenerateSecret makes a secret of 32 random bytes.
func GenerateSecret() Secret {
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return SecretFromBytes(key)
}

// SecretFromBytes makes a secret of a key that [Secret.Bytes] gave, of whatever length. It keeps a copy.
// No bytes give the zero Secret.
func SecretFromBytes(key []byte) Secret {
	if len(key) == 0 {
		return Secret{}
	}
	text := string(key)
	return Secret{key: &text}
}

// Bytes is a copy of the HMAC key, for storage. It is nil for the zero Secret.
func (s Secret) Bytes() []byte {
	if s.key == nil {
		return nil
	}
	return []byte(*s.key)
}

// Text is the secret in the form that [ParseSecret] reads, with padding, or "" for the zero Secret.
func (s Secret) Text() string {
	if s.key == nil {
		return ""
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(s.Bytes())
}

// String hides the secret; see [Secret.Text].
func (s Secret) String() string { return redacted }

// GoString hides the secret.
func (s Secret) GoString() string { return redacted }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
