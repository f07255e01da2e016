package egress

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fanfare-webhooks/fanfare"
)

// short is the deadline of tests in which the deadline is what happens.
const short = 100 * time.Millisecond

// drip sends head, then one byte after the other for as long as somebody listens.
func drip(head string, b byte) func(net.Conn) {
	return func(c net.Conn) {
		if !readRequest(c) {
			return
		}
		io.WriteString(c, head)
		for {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(time.Millisecond) // the receiver's slowness, not a wait of the test
		}
	}
}

// flood sends head, then block again and again.
func flood(head, block string) func(net.Conn) {
	block = strings.Repeat(block, 1+4096/len(block))
	return func(c net.Conn) {
		if !readRequest(c) {
			return
		}
		io.WriteString(c, head)
		for {
			if _, err := io.WriteString(c, block); err != nil {
				return
			}
		}
	}
}

func silent(c net.Conn) { io.Copy(io.Discard, c) }

func TestHostileReceivers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, tc := range map[string]struct {
		serve   func(net.Conn)
		timeout time.Duration
		want    fanfare.ErrorCode
		status  int
		detail  string // part of it
	}{
		"never answers":                {silent, short, fanfare.ErrTimeout, 0, "no response within 100ms"},
		"a byte at a time of header":   {drip(ok+"X-A: ", 'a'), short, fanfare.ErrTimeout, 0, "no response"},
		"a byte at a time of body":     {drip(ok+"Content-Length: 100000\r\n\r\n", 'a'), short, fanfare.ErrTimeout, 200, "did not end"},
		"body stops":                   {stall(ok + "Content-Length: 9\r\n\r\nabc"), short, fanfare.ErrTimeout, 200, "did not end"},
		"a body without end":           {flood(ok+"\r\n", "a"), enough, "", 200, ""},
		"10 GB announced":              {flood(ok+"Content-Length: 10000000000\r\n\r\n", "a"), enough, "", 200, ""},
		"chunks without end":           {flood(ok+"Transfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n"), enough, "", 200, ""},
		"a failure without end":        {flood("HTTP/1.1 500 no\r\n\r\n", "a"), enough, "", 500, ""},
		"headers without end":          {flood(ok, "X-A: b\r\n"), enough, fanfare.ErrProtocol, 0, "headers exceeded"},
		"one header without end":       {flood(ok+"X-A: ", "b"), enough, fanfare.ErrProtocol, 0, "headers exceeded"},
		"a status line without end":    {flood("HTTP/1.1 200 ", "b"), enough, fanfare.ErrProtocol, 0, "headers exceeded"},
		"100 KiB of headers":           {answering(ok + strings.Repeat("X-A: "+strings.Repeat("b", 1018)+"\r\n", 100) + "Content-Length: 0\r\n\r\n"), enough, fanfare.ErrProtocol, 0, "headers exceeded"},
		"5,000 times 103":              {answering(strings.Repeat("HTTP/1.1 103 a\r\n\r\n", 5000) + okAnswer), enough, fanfare.ErrProtocol, 0, "headers exceeded"},
		"1xx without end":              {flood("", "HTTP/1.1 103 Early Hints\r\n\r\n"), enough, fanfare.ErrProtocol, 0, "headers exceeded"},
		"100 without end":              {flood("", "HTTP/1.1 100 \r\n\r\n"), enough, fanfare.ErrProtocol, 0, "headers exceeded"},
		"trailers without end":         {flood(ok+"Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n0\r\n", "X-A: b\r\n"), enough, fanfare.ErrProtocol, 200, ""},
		"chunk extensions without end": {flood(ok+"Transfer-Encoding: chunked\r\n\r\n1;a=", "b"), enough, fanfare.ErrProtocol, 200, ""},
		"a few 1xx first":              {answering("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 a\r\n\r\n" + okAnswer), enough, "", 200, ""},
		"101":                          {answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), enough, fanfare.ErrProtocol, 101, "status 101"},
		"status 000":                   {answering("HTTP/1.1 000 \x1b[31mno\x07\r\n\r\n", "close"), enough, fanfare.ErrProtocol, 0, "status 000"},
		"status 99":                    {answering("HTTP/1.1 99 x\r\n\r\n", "close"), enough, fanfare.ErrProtocol, 0, ""},
		"status 999":                   {answering("HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n"), enough, "", 999, ""},
		"closes at once":               {func(net.Conn) {}, enough, fanfare.ErrConnect, 0, "without answering"},
		"closes after the request":     {answering("", "close"), enough, fanfare.ErrConnect, 0, "without answering"},
		"resets after the request":     {reset(""), enough, fanfare.ErrConnect, 0, "without answering"},
		"resets within the header":     {reset(ok + "X-A: b\r\n"), enough, fanfare.ErrProtocol, 0, ""},
		"closes within the header":     {answering(ok+"X-A: b\r\n", "close"), enough, fanfare.ErrProtocol, 0, ""},
		"truncated body":               {answering(ok+"Content-Length: 10\r\n\r\nabc", "close"), enough, fanfare.ErrProtocol, 200, "ended within"},
		"truncated chunks":             {answering(ok+"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", "close"), enough, fanfare.ErrProtocol, 200, "ended within"},
		"truncated failure":            {answering("HTTP/1.1 500 no\r\nContent-Length: 10\r\n\r\nabc", "close"), enough, fanfare.ErrProtocol, 500, "ended within"},
		"not HTTP":                     {answering("SSH-2.0-OpenSSH_9.2\r\n\r\n", "close"), enough, fanfare.ErrProtocol, 0, "malformed"},
		"speaks TLS":                   {answering("\x15\x03\x01\x00\x02\x02\x46\r\n", "close"), enough, fanfare.ErrProtocol, 0, "malformed"},
		"two lengths":                  {answering(ok+"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "close"), enough, fanfare.ErrProtocol, 0, ""},
		"a length below zero":          {answering(ok+"Content-Length: -1\r\n\r\n", "close"), enough, fanfare.ErrProtocol, 0, ""},
		"no length, closes":            {answering(ok+"\r\nabc", "close"), enough, "", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := listen(t, "127.0.0.1:0", tc.serve)
			res := post(devClient(t), "http://"+r.addr, tc.timeout)
			if res.Error != tc.want || res.Status != tc.status || !strings.Contains(res.Detail, tc.detail) || res.OwnFault {
				t.Errorf("%q %d %q %v; want %q %d %q", res.Error, res.Status, res.Detail, res.OwnFault, tc.want, tc.status, tc.detail)
			}
			if len(res.Header) > maxHeaderKept || len(res.Body) > keptFailure || (res.Error == "") != (res.Detail == "") {
				t.Errorf("%d bytes of header, %d of body, detail %q", len(res.Header), len(res.Body), res.Detail)
			}
			if !utf8.ValidString(res.Detail) || strings.ContainsAny(res.Detail, "\x1b\x07\r\n") || strings.Contains(res.Detail, "127.0.0.1") {
				t.Errorf("detail %q", res.Detail)
			}
			if n := r.accepted.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// stall sends text and then nothing.
func stall(text string) func(net.Conn) {
	return func(c net.Conn) {
		readRequest(c)
		io.WriteString(c, text)
		silent(c)
	}
}

// reset sends text, sees it off and resets the connection.
func reset(text string) func(net.Conn) {
	return func(c net.Conn) {
		readRequest(c)
		io.WriteString(c, text)
		c.(*net.TCPConn).SetLinger(0)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	can := canary(t)
	for _, status := range []string{"301", "302", "303", "307", "308", "300", "304", "399"} {
		for _, location := range []string{"http://" + can.addr + "/", "http://169.254.169.254/", "file:///etc/passwd", "/", "//" + can.addr, "\xff"} {
			r := listen(t, "127.0.0.2:0", answering("HTTP/1.1 "+status+" x\r\nLocation: "+location+
				"\r\nRefresh: 0; url=http://"+can.addr+"\r\nAlt-Svc: h3=\""+can.addr+"\"\r\nContent-Length: 0\r\n\r\n"))
			c := newClient(t, Options{Allow: prefixes("127.0.0.0/8"), AllowHTTP: true})
			for range 2 {
				res := post(c, "http://"+r.addr, enough)
				if res.Error != "" || res.Status/100 != 3 {
					t.Errorf("%s to %q: %+v", status, location, res)
				}
			}
			if n := r.accepted.Load(); n != 1 {
				t.Errorf("%s to %q: %d connections", status, location, n)
			}
		}
	}
	if n := can.accepted.Load(); n != 0 {
		t.Errorf("the canary saw %d connections", n)
	}
}

func TestRemoteBytesAreKeptAsTheyCame(t *testing.T) {
	r := listen(t, "127.0.0.1:0", answering("HTTP/1.1 500 \xff\x1b[2J\r\nX-A: \xff\x80é\tb\r\nContent-Length: 4\r\n\r\n\x00\xff\r\n"))
	res := post(devClient(t), "http://"+r.addr, enough)
	if res.Error != "" || string(res.Body) != "\x00\xff\r\n" || string(res.Header) != "X-A: \xff\x80é\tb\r\nContent-Length: 4\r\n" {
		t.Errorf("%+v, header %q, body %q", res, res.Header, res.Body)
	}
}

func TestControlCharactersInHeadersMakeNoLines(t *testing.T) {
	for _, bad := range []string{"\x00", "\x1b[2J", "\r", "\rX-C: d", "\x7f", "b\r\r", "b\n X-C: d"} {
		r := listen(t, "127.0.0.1:0", answering("HTTP/1.1 200 OK\r\nX-A: b"+bad+"\r\nContent-Length: 0\r\n\r\n", "close"))
		res := post(devClient(t), "http://"+r.addr, enough)
		if res.Error != "" && res.Error != fanfare.ErrProtocol {
			t.Errorf("%q: %+v", bad, res)
		}
		if h := string(res.Header); res.Error == "" && (strings.Count(h, "\r\n") != 2 || strings.Count(h, "\r")+strings.Count(h, "\n") != 4) {
			t.Errorf("%q: header %q", bad, h)
		}
		if strings.ContainsAny(res.Detail, "\x00\x1b\r\n\x7f") {
			t.Errorf("%q: detail %q", bad, res.Detail)
		}
	}
}

func TestNothingIsDecompressed(t *testing.T) {
	const gz = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" // the start of a bomb
	r := listen(t, "127.0.0.1:0", answering("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n"+gz))
	res := post(devClient(t), "http://"+r.addr, enough)
	if res.Error != "" || string(res.Body) != gz || !strings.Contains(string(res.Header), "Content-Encoding: gzip") {
		t.Fatalf("%+v", res)
	}
}

func TestKeptHeadersAreBounded(t *testing.T) {
	r := listen(t, "127.0.0.1:0", answering("HTTP/1.1 200 OK\r\n"+strings.Repeat("X-A: "+strings.Repeat("b", 100)+"\r\n", 300)+
		"Retry-After: "+strings.Repeat("9", 1000)+"\r\nContent-Length: 0\r\n\r\n"))
	res := post(devClient(t), "http://"+r.addr, enough)
	if res.Error != "" || len(res.Header) > maxHeaderKept || len(res.Header) < maxHeaderKept-200 || !strings.HasSuffix(string(res.Header), "\r\n") {
		t.Errorf("%q, %d bytes", res.Error, len(res.Header))
	}
	if len(res.RetryAfter) != maxRetryAfter {
		t.Errorf("%d bytes of Retry-After", len(res.RetryAfter))
	}
}

// A response that nobody asked for must not answer the next request, and the next request must not be
// sent twice because of it.
func TestAnUnsolicitedResponseEndsTheConnection(t *testing.T) {
	authority := newPKI(t)
	config := &tls.Config{Certificates: []tls.Certificate{authority.leaf(t, "hook.test", time.Hour)}}
	const poison = "HTTP/1.1 500 poison\r\nContent-Length: 0\r\n\r\n"
	for name, parts := range map[string][]string{
		"after the response":   {okAnswer, poison},
		"in one piece with it": {okAnswer + poison},
		"as a first byte":      {okAnswer, poison[:1]},
		"beyond our buffer":    {"HTTP/1.1 200 OK\r\nContent-Length: 4055\r\n\r\n" + strings.Repeat("x", readBuffer-41) + poison},
		"where no body may be": {"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello"},
		"1xx":                  {okAnswer, "HTTP/1.1 103 x\r\n\r\n"},
	} {
		for scheme, wrap := range map[string]func(func(net.Conn)) func(net.Conn){
			"http":  func(serve func(net.Conn)) func(net.Conn) { return serve },
			"https": func(serve func(net.Conn)) func(net.Conn) { return overTLS(config, serve) },
		} {
			var conns, requests atomic.Int64
			sent, gone := make(chan struct{}, 16), make(chan struct{}, 16)
			r := listen(t, "127.0.0.1:0", wrap(func(c net.Conn) {
				first := conns.Add(1) == 1
				for readRequest(c) {
					requests.Add(1)
					if first {
						for _, part := range parts {
							io.WriteString(c, part)
						}
						sent <- struct{}{}
						break
					}
					io.WriteString(c, okAnswer)
				}
				io.Copy(io.Discard, c)
				gone <- struct{}{}
			}))
			ns := newNameServer(t)
			ns.set("hook.test", "127.0.0.1")
			c := newClient(t, Options{AllowLoopback: true, AllowHTTP: true, RootCAs: authority.pool, DialNameServer: ns.dial})
			url := scheme + "://hook.test:" + port(r)
			if res := post(c, url, enough); res.Status/100 != 2 || res.Error != "" {
				t.Fatalf("%s, %s: %+v", name, scheme, res)
			}
			<-sent
			if res := post(c, url, enough); res.Status != 200 || res.Error != "" {
				t.Fatalf("%s, %s: %+v", name, scheme, res)
			}
			select {
			case <-gone:
			case <-time.After(enough):
				t.Fatalf("%s, %s: the connection is still open", name, scheme)
			}
			if conns.Load() != 2 || requests.Load() != 2 {
				t.Errorf("%s, %s: %d connections, %d requests", name, scheme, conns.Load(), requests.Load())
			}
		}
	}
}

// A receiver that reads a request on a kept connection and closes it without an answer may have done
// its work: nothing may send the request again.
func TestARequestThatWasReadIsNeverSentAgain(t *testing.T) {
	for _, r := range []*Request{
		{Method: "POST", Body: []byte("x")},
		{Method: "POST"},
		{Method: "PUT", Body: []byte("x")},
		{Method: "GET"},
		{Method: "POST", Body: []byte("x"), Header: []Field{{"Idempotency-Key", "k"}}},
		{Method: "POST", Body: []byte("x"), Header: []Field{{"x-idempotency-key", "k"}}},
	} {
		for name, end := range map[string]func(net.Conn){
			"closed": func(net.Conn) {},
			"reset":  func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) },
		} {
			var requests atomic.Int64
			rec := listen(t, "127.0.0.1:0", func(c net.Conn) {
				br := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					if requests.Add(1) > 1 {
						end(c)
						return
					}
					io.WriteString(c, okAnswer)
				}
			})
			c := devClient(t)
			if res := post(c, "http://"+rec.addr, enough); res.Error != "" {
				t.Fatalf("%+v", res)
			}
			r.URL, r.Timeout = "http://"+rec.addr, enough
			res := c.Do(t.Context(), r)
			if res.Error != fanfare.ErrConnect || !strings.Contains(res.Detail, "kept-alive") || !res.Stale || res.OwnFault {
				t.Errorf("%s %s: %+v", r.Method, name, res)
			}
			if n := requests.Load(); n != 2 {
				t.Errorf("%s %s: %d requests for two attempts", r.Method, name, n)
			}
		}
	}
}

// A connection that died while it was idle is noticed before a byte is written: the attempt goes out on
// a new one.
func TestAConnectionThatDiedIdleCostsNoAttempt(t *testing.T) {
	closed := make(chan struct{}, 64)
	r := listen(t, "127.0.0.1:0", func(c net.Conn) {
		readRequest(c)
		io.WriteString(c, okAnswer)
		c.Close()
		closed <- struct{}{}
	})
	c := devClient(t)
	for range 20 {
		if res := post(c, "http://"+r.addr, enough); res.Error != "" || res.Stale {
			t.Fatalf("%+v", res)
		}
		<-closed
	}
}

func TestTheSlotIsFreeAtTheDeadline(t *testing.T) {
	r := listen(t, "127.0.0.1:0", silent)
	c := devClient(t)
	before := time.Now()
	res := post(c, "http://"+r.addr, short)
	if res.Error != fanfare.ErrTimeout || res.Duration < short || time.Since(before) < short {
		t.Errorf("%+v", res)
	}
}

// What a dial left behind would be sockets that no limit counts.
func TestADialEndsWithItsAttempt(t *testing.T) {
	gone := make(chan struct{}, 1)
	r := listen(t, "127.0.0.1:0", func(c net.Conn) {
		io.Copy(io.Discard, c) // never shakes hands
		gone <- struct{}{}
	})
	if res := post(devClient(t), "https://"+r.addr, short); res.Error != fanfare.ErrTimeout {
		t.Fatalf("%+v", res)
	}
	select {
	case <-gone:
	case <-time.After(enough):
		t.Fatal("the connection is still open")
	}
}

// pki makes certificates of a test authority.
type pki struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &pki{key: key, pool: x509.NewCertPool()}
	p.cert = p.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	})
	p.pool.AddCert(p.cert)
	return p
}

func (p *pki) sign(t testing.TB, c *x509.Certificate) *x509.Certificate {
	t.Helper()
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent := p.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &p.key.PublicKey, p.key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (p *pki) leaf(t testing.TB, name string, until time.Duration) tls.Certificate {
	c := p.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(until),
	})
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: p.key}
}

// overTLS serves after a handshake.
func overTLS(config *tls.Config, serve func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		s := tls.Server(c, config)
		if s.Handshake() == nil {
			serve(s)
		}
		s.Close()
	}
}

func TestTLS(t *testing.T) {
	ours, strangers := newPKI(t), newPKI(t)
	good := &tls.Config{Certificates: []tls.Certificate{ours.leaf(t, "hook.test", time.Hour)}}
	with := func(p *pki, name string, until time.Duration) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{p.leaf(t, name, until)}}
	}
	old := good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	asksClient := good.Clone()
	asksClient.ClientAuth = tls.RequireAnyClientCert
	ok := answering(okAnswer)
	for name, tc := range map[string]struct {
		serve   func(net.Conn)
		timeout time.Duration
		want    fanfare.ErrorCode
		detail  string
	}{
		"good":              {overTLS(good, ok), enough, "", ""},
		"never answers":     {silent, short, fanfare.ErrTimeout, "no connection"},
		"expired":           {overTLS(with(ours, "hook.test", -time.Hour), ok), enough, fanfare.ErrTLS, "expired"},
		"unknown authority": {overTLS(with(strangers, "hook.test", time.Hour), ok), enough, fanfare.ErrTLS, "unknown authority"},
		"another host":      {overTLS(with(ours, "other.test", time.Hour), ok), enough, fanfare.ErrTLS, "other.test"},
		"escapes in a name": {overTLS(with(ours, "a\x1b[2Jb", time.Hour), ok), enough, fanfare.ErrTLS, ""},
		"TLS 1.1":           {overTLS(old, ok), enough, fanfare.ErrTLS, ""},
		"asks for a client": {overTLS(asksClient, ok), enough, fanfare.ErrTLS, "refused"},
		"plain HTTP":        {func(c net.Conn) { io.WriteString(c, okAnswer+okAnswer); silent(c) }, enough, fanfare.ErrTLS, "does not speak TLS"},
		"closes":            {func(c net.Conn) { c.Read(make([]byte, 1<<16)) }, enough, fanfare.ErrTLS, "closed"},
		"resets":            {func(c net.Conn) { c.Read(make([]byte, 1)); c.(*net.TCPConn).SetLinger(0) }, enough, fanfare.ErrTLS, "reset"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := listen(t, "127.0.0.2:0", tc.serve)
			ns := newNameServer(t)
			ns.set("hook.test", "127.0.0.2")
			c := newClient(t, Options{Allow: prefixes("127.0.0.2/32"), RootCAs: ours.pool, DialNameServer: ns.dial})
			for range 2 {
				res := post(c, "https://hook.test:"+port(r), tc.timeout)
				if res.Error != tc.want || !strings.Contains(res.Detail, tc.detail) || strings.ContainsAny(res.Detail, "\x1b\r\n") || strings.Contains(res.Detail, "127.0") {
					t.Errorf("%q %q; want %q %q", res.Error, res.Detail, tc.want, tc.detail)
				}
			}
		})
	}
}

func TestTLSIsNeverSkippedForHTTP(t *testing.T) {
	r := listen(t, "127.0.0.1:0", answering(okAnswer))
	c := newClient(t, Options{Allow: prefixes("127.0.0.0/8")})
	if res := post(c, "http://"+r.addr, enough); res.Error != fanfare.ErrBlocked || r.accepted.Load() != 0 {
		t.Fatalf("%+v", res)
	}
}

func BenchmarkDo(b *testing.B) {
	r := listen(b, "127.0.0.1:0", func(c net.Conn) {
		buf := make([]byte, 8192)
		answer := []byte("HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
	c := devClient(b)
	payload := []byte(strings.Repeat("x", 512))
	ctx, cancel := context.WithCancel(context.Background()) // as that of a sender, which all its requests share
	defer cancel()
	url := "http://" + r.addr + "/hook"
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			res := c.Do(ctx, &Request{
				Method: "POST", URL: url, Body: payload, Timeout: enough,
				Header: []Field{
					{"webhook-id", "0198c0de-0000-7000-8000-000000000000"},
					{"webhook-timestamp", "1790000000"},
					{"webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="},
					{"Content-Type", "application/json"},
					{"X-Fanfare-Attempt", "1"},
				},
			})
			if res.Error != "" {
				b.Fatalf("%+v", res)
			}
		}
	})
}
