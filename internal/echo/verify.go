package echo

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// Verdict says whether the secret that the receiver was told has signed a request (Standard Webhooks).
type Verdict struct {
	Valid  bool   `json:"valid"`
	Detail string `json:"detail"` // why not; "" if it is
}

const secretOption = "secret="

// secretOf is the secret that a query tells. Its plus signs are meant as such: it is pasted as it is.
func secretOf(query string) (secret signature.Secret, told bool, err error) {
	for part := range strings.SplitSeq(query, "&") {
		if text, ok := strings.CutPrefix(part, secretOption); ok {
			if text, err = url.PathUnescape(text); err == nil {
				secret, err = signature.ParseSecret(text)
			}
			return secret, true, err
		}
	}
	return secret, false, nil
}

// withoutSecret is the query as it is shown to whoever looks.
func withoutSecret(query string) string {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		if strings.HasPrefix(part, secretOption) {
			parts[i] = secretOption + "…"
		}
	}
	return strings.Join(parts, "&")
}

// verify checks the signature over the body, or over what was appended to the query of a GET.
func verify(r *http.Request, body []byte, req *Request, secret signature.Secret) *Verdict {
	if req.Truncated {
		return &Verdict{Detail: "the request is too long to be verified here"}
	}
	if r.Method == http.MethodGet {
		body = []byte(appended(r.URL.RawQuery))
	}
	if err := signature.Verify(r.Header, body, time.Now(), secret); err != nil {
		return &Verdict{Detail: strings.TrimPrefix(err.Error(), "signature: ")}
	}
	return &Verdict{Valid: true}
}

// appended is what follows this receiver's own options.
func appended(query string) string {
	for query != "" {
		part, rest, _ := strings.Cut(query, "&")
		name, _, _ := strings.Cut(part, "=")
		if !slices.Contains([]string{"secret", "status", "delay"}, name) {
			break
		}
		query = rest
	}
	return query
}
