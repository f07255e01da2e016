package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// The largest bodies, in bytes.
const (
	maxBody        = 256 << 10 // of a call that the ones below do not name
	maxPublishBody = 512 << 10
	maxBatchBody   = 4 << 20
	maxData        = 256 << 10 // of one event's data
)

// readBody reads a JSON body of at most limit bytes. Too much is refused before it is read whole, and
// memory grows with what has come, not with what was announced. Nothing needs no content type.
func readBody(r *http.Request, limit int) ([]byte, error) {
	if r.ContentLength > int64(limit) {
		return nil, tooLarge(limit)
	}
	if r.ContentLength == 0 {
		return nil, nil
	}
	if !isJSON(r.Header) {
		return nil, errMediaType
	}
	size := 4 << 10
	if r.ContentLength > 0 {
		size = min(int(r.ContentLength)+1, 64<<10) // one more, so that the end is seen without growing
	}
	body := make([]byte, 0, size)
	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if len(body) > limit {
			return nil, tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, errIncomplete
		}
		if len(body) == cap(body) {
			grown := 4 * cap(body)
			if r.ContentLength > 0 {
				grown = min(max(grown, maxPublishBody), int(r.ContentLength)+1)
			}
			body = append(make([]byte, 0, min(grown, limit+1)), body...)
		}
	}
}

func isJSON(h http.Header) bool {
	if len(h["Content-Encoding"]) > 0 && !strings.EqualFold(h.Get("Content-Encoding"), "identity") {
		return false
	}
	values := h["Content-Type"]
	if len(values) != 1 {
		return false
	}
	if values[0] == "application/json" {
		return true
	}
	kind, params, err := mime.ParseMediaType(values[0])
	if err != nil || kind != "application/json" {
		return false
	}
	charset, ok := params["charset"]
	return !ok || strings.EqualFold(charset, "utf-8")
}

// malformed says where a body stops being JSON. It reads the body once more, which only a refused one costs.
func malformed(body []byte) *problem {
	p := *errMalformed
	var syntax *json.SyntaxError
	if at := invalidUTF8(body); at >= 0 {
		p.detail = fmt.Sprintf("The body is not JSON: byte %d is not UTF-8.", at)
	} else if errors.As(json.Unmarshal(body, new(json.RawMessage)), &syntax) {
		p.detail = fmt.Sprintf("The body is not JSON: byte %d: %s.", syntax.Offset, syntax)
	}
	return &p
}

func invalidUTF8(b []byte) (at int) {
	for at < len(b) {
		r, n := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && n <= 1 {
			return at
		}
		at += n
	}
	return -1
}

// tooLarge is what is said of a body that has more bytes than the limit: there may be more of it to come.
func tooLarge(limit int) *problem {
	p := *errTooLarge
	p.detail = fmt.Sprintf("The body is too large: at most %d KiB.", limit>>10)
	return &p
}

// What is read of a body that is too large, and for how long, so that a client which first sends and then
// reads gets its answer rather than a broken connection.
const (
	maxDrain  = 8 << 20
	drainTime = 2 * time.Second
)

func drain(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Expect") != "" || r.ContentLength > maxDrain {
		return // it waits to be asked, or it would be cut off all the same
	}
	if http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTime)) == nil {
		_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
	}
}
