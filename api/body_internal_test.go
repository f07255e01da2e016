package api

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAMalformedBodyIsToldWhereAndWhat(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":NaN}`:     "byte 6: invalid character 'N'",
		`{"a":1,}`:      "byte 8: invalid character '}'",
		`{"a":1} x`:     "byte 9: invalid character 'x'",
		`{"a":1`:        "byte 6: unexpected end",
		"{\"a\":\"\xff": "byte 6 is not UTF-8",
	} {
		if p := malformed([]byte(body)); p.code != codeMalformed || !strings.Contains(p.detail, want) {
			t.Errorf("%q: %s", body, p.detail)
		}
	}
	if errMalformed.detail != "The body is not JSON." {
		t.Errorf("the shared problem was written to: %s", errMalformed.detail)
	}
}

// A client that first sends all and then reads must see why it was refused.
func TestABodyThatIsTooLargeIsDrainedForItsAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := readBody(r, maxPublishBody); problemOf(err).code == codeTooLarge {
			drain(w, r)
			w.WriteHeader(errTooLarge.status)
		}
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const size = 6 << 20
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 6291456\r\nConnection: close\r\n\r\n")
	if err == nil {
		_, err = conn.Write(bytes.Repeat([]byte(" "), size))
	}
	if err != nil {
		t.Fatalf("the body could not be sent: %v", err)
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413 ") {
		t.Errorf("answered %.60q, %v", answer, err)
	}
}

func TestAnEscapedSlashDoesNotDivideAPath(t *testing.T) {
	s := &Server{metrics: newMetrics(nil), log: slog.New(slog.DiscardHandler)}
	s.router = s.newRouter()
	for path, want := range map[string]int{"/openapi.yaml": http.StatusOK, "/v1/accounts%2Fme": http.StatusNotFound, "/v1%2fevents%2fbatch": http.StatusNotFound} {
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if rec.Code != want {
			t.Errorf("%s: %d, want %d", path, rec.Code, want)
		}
	}
}
