package egress

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// onTheWire is a request to a URL as it is sent.
func onTheWire(t testing.TB, c *Client, r *Request) (string, *failure) {
	t.Helper()
	to, f := c.target(r.Method, r.URL)
	if f == nil {
		f = checkRequest(r)
	}
	if f != nil {
		return "", f
	}
	return string(appendHead(nil, to, r)) + string(r.Body), nil
}

func TestTheBytesOnTheWireAreThoseOfNetHTTP(t *testing.T) {
	c := newClient(t, Options{AllowHTTP: true, AllowLoopback: true, Allow: prefixes("0.0.0.0/0", "::/0")})
	fields := []Field{{"Content-Type", "application/json"}, {"X-A", "1"}, {"webhook-id", "a b\té"}} // net/http sorts
	for _, url := range []string{
		"https://example.com", "https://example.com/", "https://example.com/hook", "http://example.com:80/hook", "https://example.com:8443/a/b/",
		"https://EXAMPLE.com./x", "https://example.com?a=1", "https://example.com/?", "https://example.com/a?b=c&d=%20e+f&&=",
		"https://example.com/a%2Fb%20c", "https://example.com/%zz/", "https://example.com//a//../b/./c", "https://example.com/a;b=c,d:e@f",
		"https://example.com/%e2%82%ac?q=%E2%82%AC", "https://example.com/a%0d%0aX-B:%20c?d%0d%0a", `https://example.com/"<>\^` + "`{|}", "https://example.com/a'b(c)!*",
		"https://bücher.example/ü", "https://bücher.example/b", "https://例え.テスト:444/", "https://[::1]/", "https://[2001:DB8::1]:8443/x?y", "http://127.0.0.1/", "https://a_b.example/",
		"https://example.com/a?b?c/d", "https://example.com/*", "https://example.com/" + strings.Repeat("a", 3000),
	} {
		u, faults := c.parse(url)
		for _, r := range []*Request{
			{Method: "POST", Body: []byte(`{"a":1}`)}, {Method: "POST"}, {Method: "PUT", Body: []byte("b")}, {Method: "GET"}, {Method: "GET", Body: []byte("c")},
		} {
			r.URL, r.Header = url, fields
			got, f := onTheWire(t, c, r)
			if (f != nil) != (faults != nil) {
				t.Fatalf("%s: %v, but %v", url, f, faults)
			}
			if f != nil {
				continue
			}
			var want bytes.Buffer
			oracle := &http.Request{
				Method: r.Method, URL: u, Host: u.Host, ContentLength: int64(len(r.Body)), Body: io.NopCloser(bytes.NewReader(r.Body)),
				Header: http.Header{"User-Agent": {c.userAgent}},
			}
			if len(r.Body) == 0 {
				oracle.Body = http.NoBody
			}
			for _, f := range fields {
				oracle.Header[f.Name] = []string{f.Value}
			}
			if err := oracle.Write(&want); err != nil {
				t.Fatal(err)
			}
			if got != want.String() {
				t.Errorf("%s %.200s:\n%.500q, net/http has\n%.500q", r.Method, url, got, want.String())
			}
		}
	}
}

func TestABodyOfAnySizeArrivesWhole(t *testing.T) {
	var got []byte
	r := listen(t, "127.0.0.1:0", serveHTTP(func(w http.ResponseWriter, r *http.Request) { got, _ = io.ReadAll(r.Body) }))
	c := devClient(t)
	for _, size := range []int{0, 1, sendBuffer / 2, sendBuffer - 200, sendBuffer, sendBuffer + 1, 100 << 10, 1 << 20} {
		for _, header := range []int{10, sendBuffer, 100 << 10} {
			body := bytes.Repeat([]byte("0123456789abcdefg"), size/17+1)[:size]
			h := []Field{{"X-A", strings.Repeat("a", header)}}
			res := c.Do(t.Context(), &Request{Method: "POST", URL: "http://" + r.addr, Body: body, Header: h, Timeout: enough})
			if res.Error != "" || !bytes.Equal(got, body) {
				t.Errorf("%d bytes after %d of header: %d arrived, %+v", size, header, len(got), res)
			}
		}
	}
	if n := r.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// Whatever a tenant sets, what is sent is one request, to the host that was checked, with that body.
func FuzzRequest(f *testing.F) {
	f.Add("https://example.com/a?b", "X-A", "b", []byte("{}"))
	f.Add("https://example.com/ HTTP/1.1\r\nX: y", "X-A", "b\r\nX-B: c", []byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add("https://[::1]/%0d%0a%20", "Transfer-Encoding", "chunked", []byte("0\r\n\r\n"))
	f.Add("https://bücher.example:1/ä", "content-length", "0", []byte("x"))
	f.Add("https://a/?\x85\u2028", "X A", "\x80", []byte(nil))
	c := newClient(f, Options{AllowHTTP: true, AllowLoopback: true})
	f.Fuzz(func(t *testing.T, url, name, value string, body []byte) {
		r := &Request{Method: "POST", URL: url, Header: []Field{{name, value}}, Body: body}
		wire, fault := onTheWire(t, c, r)
		if fault != nil {
			return
		}
		br := bufio.NewReader(strings.NewReader(wire))
		got, err := http.ReadRequest(br)
		if err != nil {
			t.Fatalf("%q: %v", wire, err)
		}
		sent, err := io.ReadAll(got.Body)
		if _, more := br.Peek(1); err != nil || !bytes.Equal(sent, body) || more == nil {
			t.Errorf("%q is read as a body %q, %v, and more: %v", wire, sent, err, more == nil)
		}
		u, _ := c.parse(url)
		if got.Host != u.Host || got.RequestURI != u.RequestURI() || got.Method != "POST" {
			t.Errorf("%q: host %q, URI %q", wire, got.Host, got.RequestURI)
		}
		for n, values := range got.Header {
			switch n {
			case "User-Agent", "Content-Length", "Cache-Control": // which net/http makes of a Pragma
			case http.CanonicalHeaderKey(name):
			default:
				t.Errorf("%q has a header %q", wire, n)
			}
			if len(values) > 1 {
				t.Errorf("%q: %s: %q", wire, n, values)
			}
		}
	})
}

func TestTargetsAreRememberedWithinBounds(t *testing.T) {
	c := newClient(t, Options{})
	first, _ := c.target("POST", "https://example.com/a")
	if again, _ := c.target("POST", "https://example.com/a"); again != first {
		t.Error("a target was made twice")
	}
	long := "https://example.com/" + strings.Repeat("a", maxTargetBytes)
	if _, f := c.target("POST", long); f != nil || c.targets.byURL[long] != nil {
		t.Errorf("a long URL: %v, kept %v", f, c.targets.byURL[long] != nil)
	}
	if _, f := c.target("GET", "https://example.com/get"); f != nil || c.targets.byURL["https://example.com/get"] != nil {
		t.Errorf("that of a GET: %v, kept %v", f, c.targets.byURL["https://example.com/get"] != nil)
	}
	for i := range maxTargets + 100 {
		if _, f := c.target("POST", "https://example.com/"+strings.Repeat("b", i%100)+"/"+strings.Repeat("c", i/100)); f != nil {
			t.Fatal(f)
		}
	}
	if n := len(c.targets.byURL); n != maxTargets {
		t.Errorf("%d targets are kept", n)
	}
	if _, f := c.target("POST", "https://10.0.0.1/"); f == nil || c.targets.byURL["https://10.0.0.1/"] != nil {
		t.Error("what is refused is kept")
	}
}
