package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
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
		return nil, errTooLarge
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
			return nil, errTooLarge
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
