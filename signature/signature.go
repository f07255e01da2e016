// Package signature signs webhooks and verifies them: it is what the receiver of a webhook imports.
//
// It implements the symmetric scheme (v1) of Standard Webhooks,
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, and hides
// its rules: what exactly is signed, how several secrets share one header, and what a comparison must
// not give away. It imports only the standard library.
//
// # Receiving webhooks
//
// A request carries three headers beside its body: [HeaderID] names the event and is the same on every
// repeat of it, [HeaderTimestamp] is when this attempt was made, in Unix seconds, and [HeaderSignature]
// covers both of them and the body. A receiver
//
//   - reads the whole body, with a limit, and gives [Verify] those bytes as they came: decoding and
//     encoding JSON again changes them;
//   - trusts nothing of the request before Verify has returned nil, and answers 400 or 401 if it does not;
//   - remembers the ids it has handled, because delivery is at least once, and answers 2xx for one it
//     has seen;
//   - answers soon, and does long work afterwards.
//
// [Handler] does all but the last of these.
//
// While a secret is being replaced, the sender signs with the old and the new one. A receiver may hold
// either, or give Verify both.
//
// A [Scheme] is another way of signing, for receivers that expect an HMAC in a header of their choosing.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed request.
const (
	HeaderID        = "webhook-id"        // the event's id
	HeaderTimestamp = "webhook-timestamp" // the attempt's time in Unix seconds
	HeaderSignature = "webhook-signature" // one or more "version,signature", separated by spaces
)

// Tolerance is how far the timestamp of a request may be from the receiver's clock, either way. It
// limits for how long a captured request can be sent again.
const Tolerance = 5 * time.Minute

// The errors of [Verify]. Match them with [errors.Is].
var (
	ErrMissingHeader = errors.New("signature: a signature header is missing")
	ErrTimestamp     = errors.New("signature: the timestamp is not acceptable")
	ErrSignature     = errors.New("signature: no signature matches")
)

const version1 = "v1,"

// encodedLen is the length of a base64 HMAC-SHA256.
var encodedLen = base64.StdEncoding.EncodedLen(sha256.Size)

// Sign makes the value of [HeaderSignature] for a request that carries id, the Unix seconds of at, and
// body: one v1 signature for each secret, in their order, separated by spaces. The id must not contain
// a full stop. No secrets give "".
func Sign(id string, at time.Time, body []byte, secrets ...Secret) string {
	return string(AppendSign(nil, id, at, body, secrets...))
}

// AppendSign appends what [Sign] returns to dst.
func AppendSign(dst []byte, id string, at time.Time, body []byte, secrets ...Secret) []byte {
	start := len(dst)
	for _, secret := range secrets {
		key := secret.Bytes()
		if key == nil {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		dst = append(dst, version1...)
		// What is hashed before the body lies behind the end of dst for a moment: no buffer of its own.
		end := len(dst)
		dst = append(dst, id...)
		dst = append(dst, '.')
		dst = strconv.AppendInt(dst, at.Unix(), 10)
		dst = append(dst, '.')
		dst = appendMAC(dst[:end], key, dst[end:], body)
	}
	return dst
}

// SetHeaders sets the three headers of a request that carries id and body: the sending half of
// [Verify], for senders and for a receiver's own tests.
func SetHeaders(h http.Header, id string, at time.Time, body []byte, secrets ...Secret) {
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(HeaderSignature, Sign(id, at, body, secrets...))
}

// Verify returns nil if the request with these headers and this body was signed with one of secrets,
// within [Tolerance] of now. Versions other than v1 are ignored.
//
// The error is [ErrMissingHeader], [ErrTimestamp] or [ErrSignature]. What it says is for the receiver's
// log; the time that Verify takes does not depend on how much of a wrong signature is right.
func Verify(h http.Header, body []byte, now time.Time, secrets ...Secret) error {
	id, timestamp, signatures := h.Get(HeaderID), h.Get(HeaderTimestamp), h.Get(HeaderSignature)
	for _, header := range []struct{ name, value string }{
		{HeaderID, id},
		{HeaderTimestamp, timestamp},
		{HeaderSignature, signatures},
	} {
		if header.value == "" {
			return fmt.Errorf("%w: %s", ErrMissingHeader, header.name)
		}
	}
	if err := checkTimestamp(timestamp, now); err != nil {
		return err
	}
	// With a full stop in the id, the beginning of a signed body could pose as the timestamp.
	if strings.Contains(id, ".") {
		return fmt.Errorf("%w: the id contains a full stop", ErrSignature)
	}
	// The timestamp is hashed as it was sent, so that no other way of writing the same number passes.
	prefix := []byte(id + "." + timestamp + ".")
	for _, secret := range secrets {
		key := secret.Bytes()
		if key == nil {
			continue
		}
		want := appendMAC(nil, key, prefix, body)
		for candidate := range strings.SplitSeq(signatures, " ") {
			got, ok := strings.CutPrefix(candidate, version1)
			if ok && hmac.Equal([]byte(got), want) {
				return nil
			}
		}
	}
	return ErrSignature
}

func checkTimestamp(timestamp string, now time.Time) error {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: it is not a number of seconds", ErrTimestamp)
	}
	age := now.Sub(time.Unix(seconds, 0))
	switch {
	case age > Tolerance:
		return fmt.Errorf("%w: it is %v old", ErrTimestamp, age.Round(time.Second))
	case age < -Tolerance:
		return fmt.Errorf("%w: it is %v ahead", ErrTimestamp, -age.Round(time.Second))
	}
	return nil
}

// appendMAC appends the base64 of the HMAC of prefix and body to dst. The prefix may lie in the spare
// capacity of dst.
func appendMAC(dst, key, prefix, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(prefix)
	mac.Write(body)
	end := len(dst) + encodedLen
	for len(dst) < end {
		dst = append(dst, '=')
	}
	sum := mac.Sum(dst)[end:]
	base64.StdEncoding.Encode(dst[end-encodedLen:end], sum)
	return dst
}
