package bench

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestRequestsAreReadOneAfterTheOther(t *testing.T) {
	const head = "POST /7 HTTP/1.1\r\nHost: x\r\n"
	w := newWire(strings.NewReader(
		head + "Webhook-ID:  a \r\ncontent-length: 5\r\n\r\nfirst" +
			head + "webhook-id: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsec\r\n3\r\nond\r\n0\r\nTrailer: x\r\n\r\n" +
			head + "Connection: close\r\n\r\n"))
	for _, want := range []struct {
		id, body string
		closes   bool
	}{{"a", "first", false}, {"b", "second", false}, {"", "", true}} {
		path, body, err := w.request(6)
		if err != nil || string(path) != "/7" || string(body) != want.body {
			t.Fatalf("got %q, %q, %v, want %q", path, body, err, want.body)
		}
		if string(w.field("webhook-id")) != want.id || w.closes() != want.closes {
			t.Errorf("got the id %q, closes %v, want %q, %v", w.field("webhook-id"), w.closes(), want.id, want.closes)
		}
	}
	if _, _, err := w.request(6); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestRequestsThatAreNone(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"another version", "POST / HTTP/1.0\r\n\r\n", errMessage},
		{"no version", "POST /\r\n\r\n", errMessage},
		{"a field without a name", "POST / HTTP/1.1\r\nx\r\n\r\n", errMessage},
		{"a length that is none", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", errMessage},
		{"a coding that is not known", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", errMessage},
		{"too long", "POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n1234567", errLength},
		{"too long in chunks", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n1234567\r\n0\r\n\r\n", errLength},
		{"a head without end", "POST / HTTP/1.1\r\nX: " + strings.Repeat("x", maxHead), errLength},
		{"cut in the head", "POST / HTTP/1.1\r\nHost", io.ErrUnexpectedEOF},
		{"cut in the body", "POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\n123", io.ErrUnexpectedEOF},
		{"cut before the body", "POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\n", io.ErrUnexpectedEOF},
		{"cut between chunks", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n", io.ErrUnexpectedEOF},
		{"cut after the chunks", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := newWire(strings.NewReader(c.text)).request(6); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestResponses(t *testing.T) {
	for _, c := range []struct {
		name, text string
		status     int
		body       string
		want       error
	}{
		{"with a body", "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}", 202, "{}", nil},
		{"without a reason", "HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", 503, "", nil},
		{"after an interim one", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}", 202, "{}", nil},
		{"with no body by its status", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", nil},
		{"that ends with the connection", "HTTP/1.1 200 OK\r\n\r\n{}", 0, "", errMessage},
		{"that changes the protocol", "HTTP/1.1 101 Switching\r\n\r\n", 0, "", errMessage},
		{"of another protocol", "SSH-2.0\r\n\r\n", 0, "", errMessage},
		{"with a status that is none", "HTTP/1.1 2x\r\n\r\n", 0, "", errMessage},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body, err := newWire(strings.NewReader(c.text)).response(6)
			if status != c.status || string(body) != c.body || !errors.Is(err, c.want) {
				t.Errorf("got %d, %q, %v", status, body, err)
			}
		})
	}
}

func TestReadingCostsNoMemory(t *testing.T) {
	const request = "POST /7 HTTP/1.1\r\nHost: x\r\nwebhook-id: a\r\nContent-Length: 5\r\n\r\nfirst"
	w := newWire(strings.NewReader(strings.Repeat(request, 1000)))
	read := func() {
		if _, _, err := w.request(6); err != nil {
			t.Fatal(err)
		}
	}
	read() // its buffers grow
	if n := testing.AllocsPerRun(100, read); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
