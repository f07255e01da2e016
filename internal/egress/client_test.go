package egress

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Before the first request: net/http reads these once. Nothing listens there.
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		os.Setenv(name, "http://127.0.0.9:9")
	}
	goleak.VerifyTestMain(m)
}

// enough is a deadline that no test reaches unless it is broken.
const enough = 20 * time.Second

func newClient(t testing.TB, o Options) *Client {
	t.Helper()
	if o.UserAgent == "" {
		o.UserAgent = "Fanfare/test"
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func devClient(t testing.TB) *Client { return newClient(t, Options{AllowLoopback: true}) }

func post(c *Client, url string, timeout time.Duration) Result {
	return c.Do(context.Background(), &Request{Method: "POST", URL: url, Body: []byte(`{"a":1}`), Timeout: timeout})
}

// receiver is a TCP server whose connections do what the test says.
type receiver struct {
	addr     string
	accepted atomic.Int64
}

func listen(t testing.TB, on string, serve func(net.Conn)) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", on)
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, serve)
}

func serveOn(t testing.TB, l net.Listener, serve func(net.Conn)) *receiver {
	r := &receiver{addr: l.Addr().String()}
	done := make(chan struct{})
	conns := make(chan net.Conn, 1024)
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.accepted.Add(1)
			conns <- c
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		close(conns)
		for c := range conns {
			c.Close()
		}
	})
	return r
}

// readRequest takes one request with its body off a connection.
func readRequest(br io.Reader) bool {
	buf := make([]byte, 64<<10)
	got := []byte{}
	for {
		n, err := br.Read(buf)
		got = append(got, buf[:n]...)
		if bytes.Contains(got, []byte("\r\n\r\n{\"a\":1}")) {
			return true
		}
		if err != nil {
			return false
		}
	}
}

// answering sends text after each request, and closes the connection if told.
func answering(text string, then ...string) func(net.Conn) {
	return func(c net.Conn) {
		for readRequest(c) {
			if _, err := io.WriteString(c, text); err != nil || len(then) > 0 {
				return
			}
		}
	}
}

// serveHTTP answers the requests of a connection, read by net/http.
func serveHTTP(h http.HandlerFunc) func(net.Conn) {
	return func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			w := httptest.NewRecorder()
			h(w, req)
			io.Copy(io.Discard, req.Body)
			res := w.Result()
			res.ContentLength = int64(w.Body.Len())
			if res.Write(c) != nil {
				return
			}
		}
	}
}

func TestAnAttemptSendsTheRequestAndBringsTheResponse(t *testing.T) {
	var got *http.Request
	var gotBody []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		gotBody, _ = io.ReadAll(r.Body)
		w.Header().Set("X-B", "2")
		w.Header().Add("X-A", "1")
		w.Header().Add("X-A", "one")
		w.Header()["Date"] = nil
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(503)
		io.WriteString(w, strings.Repeat("x", 5000))
	}))
	defer srv.Close()
	c := devClient(t)

	res := c.Do(t.Context(), &Request{
		Method: "POST", URL: srv.URL + "/hook?a=1", Body: []byte("payload"), Timeout: enough,
		Header: []Field{
			{"webhook-id", "e1"},
			{"Content-Type", "application/json"},
			{"idempotency-key", "x"},
			{"X-Idempotency-Key", "x"},
			{"Accept-Encoding", "gzip"},
			{"Connection", "close"},
			{"Expect", "100-continue"},
			{"User-Agent", "other"},
		},
	})

	if res.Error != "" || res.Status != 503 || res.OwnFault || res.Detail != "" {
		t.Fatalf("result %+v", res)
	}
	if want := "Retry-After: 120\r\nX-A: 1\r\nX-A: one\r\nX-B: 2\r\nContent-Type: text/plain; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"; string(res.Header) != want {
		t.Errorf("header %q, want %q", res.Header, want)
	}
	if len(res.Body) != 4096 || res.RetryAfter != "120" {
		t.Errorf("%d bytes of body, Retry-After %q", len(res.Body), res.RetryAfter)
	}
	if res.StartedAt.IsZero() || res.Duration <= 0 {
		t.Errorf("times %v %v", res.StartedAt, res.Duration)
	}
	if got.Method != "POST" || got.RequestURI != "/hook?a=1" || string(gotBody) != "payload" || got.ProtoMajor != 1 {
		t.Errorf("request %s %s %q", got.Method, got.RequestURI, gotBody)
	}
	if got.Header.Get("webhook-id") != "e1" || got.Header.Get("User-Agent") != "Fanfare/test" {
		t.Errorf("request header %v", got.Header)
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key", "Accept-Encoding", "Expect", "Connection"} {
		if v := got.Header.Values(name); len(v) > 0 {
			t.Errorf("%s was sent: %q", name, v)
		}
	}
}

func TestASuccessKeeps256BytesOfBody(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("y", 1000))
	}))
	defer srv.Close()
	if res := post(devClient(t), srv.URL, enough); res.Error != "" || len(res.Body) != 256 {
		t.Fatalf("%q, %d bytes", res.Error, len(res.Body))
	}
}

func TestConnectionsAreKept(t *testing.T) {
	r := listen(t, "127.0.0.1:0", answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	c := devClient(t)
	for range 20 {
		if res := post(c, "http://"+r.addr, enough); res.Error != "" {
			t.Fatalf("%+v", res)
		}
	}
	if n := r.accepted.Load(); n != 1 {
		t.Fatalf("%d connections for 20 requests in a row", n)
	}
}

func TestEachMethodSendsItsBodyOnce(t *testing.T) {
	type seen struct {
		method, body string
		length       int64
	}
	var got []seen
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = append(got, seen{r.Method, string(b), r.ContentLength})
	}))
	defer srv.Close()
	c := devClient(t)
	for _, r := range []*Request{
		{Method: "POST", Body: []byte("a")},
		{Method: "POST"},
		{Method: "PUT", Body: []byte("b")},
		{Method: "GET"},
		{Method: "GET", Body: []byte("c")},
	} {
		r.URL, r.Timeout = srv.URL, enough
		got = nil
		if res := c.Do(t.Context(), r); res.Error != "" {
			t.Errorf("%s %q: %+v", r.Method, r.Body, res)
		}
		if want := (seen{r.Method, string(r.Body), int64(len(r.Body))}); len(got) != 1 || got[0] != want {
			t.Errorf("received %v, want once %v", got, want)
		}
	}
}

func TestWhatCannotBeSentIsARequestError(t *testing.T) {
	c := devClient(t)
	for name, r := range map[string]*Request{
		"method":       {Method: "TRACE", URL: "http://localhost/"},
		"header name":  {Method: "POST", URL: "http://localhost/", Header: []Field{{"a b", "x"}}},
		"header value": {Method: "POST", URL: "http://localhost/", Header: []Field{{"X-A", "a\r\nb: c"}}},
		"userinfo":     {Method: "POST", URL: "http://u:hunter2@localhost/"},
		"no URL":       {Method: "POST", URL: "::"},
	} {
		res := c.Do(t.Context(), r)
		if res.Error != fanfare.ErrRequest || res.Detail == "" || res.OwnFault {
			t.Errorf("%s: %+v", name, res)
		}
		if strings.Contains(res.Detail, "hunter2") {
			t.Errorf("%s: the detail tells the password: %q", name, res.Detail)
		}
	}
}

func TestShutdownIsOurOwnFault(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := listen(t, "127.0.0.1:0", func(c net.Conn) {
		readRequest(c)
		cancel()
		io.Copy(io.Discard, c)
	})
	res := devClient(t).Do(ctx, &Request{Method: "POST", URL: "http://" + r.addr, Body: []byte(`{"a":1}`), Timeout: enough})
	if res.Error != fanfare.ErrOwn || !res.OwnFault {
		t.Fatalf("%+v", res)
	}
}

func TestNewNamesEveryFault(t *testing.T) {
	_, err := New(Options{Allow: []netip.Prefix{{}}, Deny: []netip.Prefix{{}}, UserAgent: "a\nb"})
	if err == nil || !strings.Contains(err.Error(), "allow") || !strings.Contains(err.Error(), "deny") || !strings.Contains(err.Error(), "user agent") {
		t.Fatalf("error %v", err)
	}
}

func TestProxiesOfTheEnvironmentAreIgnored(t *testing.T) { // TestMain has set them
	ns := newNameServer(t)
	ns.set("hook.test", "127.0.0.2")
	r := listen(t, "127.0.0.2:0", answering(okAnswer))
	c := newClient(t, Options{AllowHTTP: true, AllowLoopback: true, DialNameServer: ns.dial})
	if res := post(c, "http://hook.test:"+port(r), enough); res.Error != "" || r.accepted.Load() != 1 {
		t.Fatalf("%+v", res)
	}
}

func port(r *receiver) string {
	_, p, _ := net.SplitHostPort(r.addr)
	return p
}
