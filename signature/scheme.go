package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Scheme is a way to sign requests. The zero Scheme is that of Standard Webhooks: what [Sign] and [Verify]
// do. The others are for receivers that check an HMAC in a header of their choosing: they are keyed with the
// UTF-8 bytes of the secret's whole text, "whsec_" included if that is how it begins.
//
// As JSON a Scheme has the form in which a webhook's settings show it.
type Scheme struct {
	Algorithm Algorithm  `json:"scheme"`
	Header    string     `json:"header,omitempty"`    // the header's name; not for Standard, nor is what follows
	Encoding  Encoding   `json:"encoding,omitempty"`  // of the HMAC
	Prefix    string     `json:"prefix,omitempty"`    // stands before each HMAC
	Timestamp *Timestamp `json:"timestamp,omitempty"` // nil: the body alone is signed
}

// Timestamp says that the time of the attempt, in Unix seconds, is signed together with the body: as
// decimal digits, a full stop and the body. Exactly one of its members is set.
type Timestamp struct {
	// Header is the name of a header of its own for the time.
	Header string `json:"header,omitempty"`

	// Prefix has the time stand in the header of the signature, behind this prefix, and parted by commas from
	// the signatures that follow it: "t=1614265330,v1=5257…". Then one header holds any number of signatures.
	Prefix string `json:"prefix,omitempty"`
}

// Algorithm is how a scheme makes a signature.
type Algorithm string

// The algorithms. "" is [Standard] too.
const (
	Standard   Algorithm = "standard"    // HMAC-SHA256 of id, time and body, as Standard Webhooks has it
	HMACSHA256 Algorithm = "hmac-sha256" // HMAC-SHA256 (RFC 2104, FIPS 180-4) of the body
	HMACSHA512 Algorithm = "hmac-sha512" // HMAC-SHA512 of the body
)

// UnmarshalText reads the name of an algorithm.
func (a *Algorithm) UnmarshalText(text []byte) error {
	switch *a = Algorithm(text); *a {
	case Standard, HMACSHA256, HMACSHA512:
		return nil
	}
	return fmt.Errorf("signature: %q is no scheme", text)
}

// Encoding is how an HMAC becomes text.
type Encoding string

// The encodings. "" is [Hex] too.
const (
	Hex    Encoding = "hex"    // lower case
	Base64 Encoding = "base64" // standard alphabet, with padding
)

// UnmarshalText reads the name of an encoding.
func (e *Encoding) UnmarshalText(text []byte) error {
	switch *e = Encoding(text); *e {
	case Hex, Base64:
		return nil
	}
	return fmt.Errorf("signature: %q is no encoding", text)
}

// GitHub is the scheme that receivers of GitHub's webhooks check: X-Hub-Signature-256: sha256=…
func GitHub() Scheme {
	return Scheme{Algorithm: HMACSHA256, Header: "X-Hub-Signature-256", Encoding: Hex, Prefix: "sha256="}
}

// Stripe is the scheme that receivers of Stripe's webhooks check: Stripe-Signature: t=…,v1=…
func Stripe() Scheme {
	return Scheme{
		Algorithm: HMACSHA256, Header: "Stripe-Signature", Encoding: Hex, Prefix: "v1=", Timestamp: &Timestamp{Prefix: "t="},
	}
}

// standard reports whether the scheme is that of Standard Webhooks.
func (s *Scheme) standard() bool { return s.Algorithm == "" || s.Algorithm == Standard }

// single reports whether the scheme's header has room for one signature only.
func (s *Scheme) single() bool {
	return !s.standard() && (s.Timestamp == nil || s.Timestamp.Prefix == "")
}

// Headers gives the name and the value of each header that signs a request with this body, sent at that
// time about that id; of an id only Standard makes use, whose [HeaderID] and [HeaderTimestamp] are among
// them. Secrets come newest first. A header that has room for one signature is signed with the last of them,
// so that a receiver which has not learned of a newer one yet still accepts it; the others are signed with
// all. Without secrets there are no headers.
//
// The body of a GET is the part of the query that was appended to the webhook's URL, without the ? or &
// before it.
func (s *Scheme) Headers(id string, at time.Time, body []byte, secrets ...Secret) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		secrets = given(secrets)
		if len(secrets) == 0 {
			return
		}
		seconds := strconv.FormatInt(at.Unix(), 10)
		if s.standard() {
			_ = yield(HeaderID, id) && yield(HeaderTimestamp, seconds) && yield(HeaderSignature, Sign(id, at, body, secrets...))
			return
		}
		if s.single() {
			secrets = secrets[len(secrets)-1:]
		}
		var value []byte
		switch {
		case s.Timestamp == nil:
			seconds = ""
		case s.Timestamp.Header != "":
			if !yield(s.Timestamp.Header, seconds) {
				return
			}
		default:
			value = append(append(value, s.Timestamp.Prefix...), seconds...)
		}
		for _, secret := range secrets {
			if len(value) > 0 {
				value = append(value, ',')
			}
			value = s.appendMAC(value, secret, seconds, body)
		}
		yield(s.Header, string(value))
	}
}

// SetHeaders sets the headers of a request: the sending half of [Scheme.Verify].
func (s *Scheme) SetHeaders(h http.Header, id string, at time.Time, body []byte, secrets ...Secret) {
	for name, value := range s.Headers(id, at, body, secrets...) {
		h.Set(name, value)
	}
}

// Verify returns nil if the request with these headers and this body was signed with one of secrets and, if
// the scheme has a time, within [Tolerance] of now. Without one, whoever has seen a request can send it
// again at any time. The body's own id helps against that; [HeaderID], which comes with every scheme, is
// signed by Standard alone.
//
// The error is [ErrMissingHeader], [ErrTimestamp] or [ErrSignature], as that of the function Verify. For
// the body of a GET see [Scheme.Headers].
func (s *Scheme) Verify(h http.Header, body []byte, now time.Time, secrets ...Secret) error {
	if s.standard() {
		return Verify(h, body, now, secrets...)
	}
	value := h.Get(s.Header)
	if value == "" {
		return fmt.Errorf("%w: %s", ErrMissingHeader, s.Header)
	}
	seconds, value, err := s.timestamp(h, value)
	if err != nil {
		return err
	}
	if s.Timestamp != nil {
		if err := checkTimestamp(seconds, now); err != nil {
			return err
		}
	}
	for _, secret := range given(secrets) {
		want := s.appendMAC(nil, secret, seconds, body)
		if s.single() {
			if hmac.Equal([]byte(value), want) {
				return nil
			}
			continue
		}
		for candidate := range strings.SplitSeq(value, ",") {
			if hmac.Equal([]byte(candidate), want) {
				return nil
			}
		}
	}
	return ErrSignature
}

// timestamp gives the time of a request as it was sent, "" if the scheme has none, and what of the
// signature's header follows it.
func (s *Scheme) timestamp(h http.Header, value string) (seconds, rest string, err error) {
	switch {
	case s.Timestamp == nil:
		return "", value, nil
	case s.Timestamp.Header != "":
		if seconds = h.Get(s.Timestamp.Header); seconds == "" {
			return "", "", fmt.Errorf("%w: %s", ErrMissingHeader, s.Timestamp.Header)
		}
		return seconds, value, nil
	}
	first, rest, _ := strings.Cut(value, ",")
	seconds, ok := strings.CutPrefix(first, s.Timestamp.Prefix)
	if !ok {
		return "", "", fmt.Errorf("%w: %s does not begin with it", ErrTimestamp, s.Header)
	}
	return seconds, rest, nil
}

// appendMAC appends one signature with its prefix; seconds is "" if the body alone is signed.
func (s *Scheme) appendMAC(dst []byte, secret Secret, seconds string, body []byte) []byte {
	algorithm := func() hash.Hash { return sha256.New() }
	if s.Algorithm == HMACSHA512 {
		algorithm = sha512.New
	}
	mac := hmac.New(algorithm, []byte(secret.Text()))
	if seconds != "" {
		mac.Write([]byte(seconds + "."))
	}
	mac.Write(body)
	dst = append(dst, s.Prefix...)
	if s.Encoding == Base64 {
		return base64.StdEncoding.AppendEncode(dst, mac.Sum(nil))
	}
	return hex.AppendEncode(dst, mac.Sum(nil))
}

// given leaves zero secrets out.
func given(secrets []Secret) []Secret {
	return slices.DeleteFunc(slices.Clone(secrets), func(s Secret) bool { return s.stored == nil })
}
