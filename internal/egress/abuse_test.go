package egress

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare"
)

// holding reads nothing, and holds the connection until the test ends.
func holding(t testing.TB) func(net.Conn) {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	return func(net.Conn) { <-done }
}

func TestManyAbusersAtOnceCostNoHealthyReceiverAnything(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	large := bytes.Repeat([]byte("x"), 8<<20) // more than the sockets' buffers take
	small := []byte(`{"a":1}`)
	kinds := map[string]struct {
		serve func(net.Conn)
		url   string
		body  []byte
		want  fanfare.ErrorCode
	}{
		"never answers":           {silent, "http://", small, fanfare.ErrTimeout},
		"never shakes hands":      {silent, "https://", small, fanfare.ErrTimeout},
		"never reads":             {holding(t), "http://", large, fanfare.ErrTimeout},
		"drips a header":          {drip(ok+"X-A: ", 'a'), "http://", small, fanfare.ErrTimeout},
		"drips a body":            {drip(ok+"Content-Length: 10000000000\r\n\r\n", 'a'), "http://", small, fanfare.ErrTimeout},
		"drips a chunk":           {drip(ok+"Transfer-Encoding: chunked\r\n\r\nffff\r\n", 'a'), "http://", small, fanfare.ErrTimeout},
		"10 GB":                   {flood(ok+"Content-Length: 10000000000\r\n\r\n", "a"), "http://", small, ""},
		"headers without end":     {flood(ok, "X-A: b\r\n"), "http://", small, fanfare.ErrProtocol},
		"1xx without end":         {flood("", "HTTP/1.1 103 x\r\n\r\n"), "http://", small, fanfare.ErrProtocol},
		"extensions without end":  {flood(ok+"Transfer-Encoding: chunked\r\n\r\n", "1;aaaaaaaaaaaaaaaaaa\r\nb\r\n"), "http://", small, fanfare.ErrProtocol},
		"closes":                  {answering("", "close"), "http://", small, fanfare.ErrConnect},
		"resets":                  {reset(ok), "http://", small, fanfare.ErrProtocol},
		"responses without end":   {flood(okAnswer, okAnswer), "http://", small, ""},
		"garbage":                 {answering("\x00\xff\x1b[2J\n\n", "close"), "http://", small, fanfare.ErrProtocol},
		"redirects to itself":     {answering("HTTP/1.1 302 x\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "close"), "http://", small, ""},
		"switches protocols":      {answering("HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), "http://", small, fanfare.ErrProtocol},
		"64 KiB of one header":    {answering(ok + "X-A: " + strings.Repeat("a", maxHeaderRead) + "\r\n\r\n"), "http://", small, fanfare.ErrProtocol},
		"compressed without end":  {flood(ok+"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", "\x00"), "http://", small, ""},
		"announces more than has": {answering(ok+"Content-Length: 10\r\n\r\nabc", "close"), "http://", small, fanfare.ErrProtocol},
		"never lets TLS end":      {func(c net.Conn) { drip("", 0x16)(c) }, "https://", small, fanfare.ErrTimeout},
	}
	const each, healthy, requests = 25, 20, 50
	files := openFiles(t)
	c := devClient(t)
	var all sync.WaitGroup
	receivers := map[string]*receiver{}
	for name, k := range kinds {
		r := listen(t, "127.0.0.1:0", k.serve)
		receivers[name] = r
		for range each {
			all.Go(func() {
				res := c.Do(t.Context(), &Request{Method: "POST", URL: k.url + r.addr, Body: k.body, Timeout: 4 * short})
				if res.Error != k.want && res.Error != fanfare.ErrTimeout || res.OwnFault || len(res.Header) > maxHeaderKept || len(res.Body) > keptFailure {
					t.Errorf("%s: %q %q, %d bytes of header, %d of body; want %q", name, res.Error, res.Detail, len(res.Header), len(res.Body), k.want)
				}
			})
		}
	}
	var delivered atomic.Int64
	for range healthy {
		r := listen(t, "127.0.0.1:0", answering(ok+"Content-Length: 2\r\n\r\nok"))
		all.Go(func() {
			for range requests {
				if res := post(c, "http://"+r.addr, enough); res.Error == "" && res.Status == 200 && string(res.Body) == "ok" {
					delivered.Add(1)
				} else {
					t.Errorf("healthy: %+v", res)
				}
			}
			if n := r.accepted.Load(); n != 1 {
				t.Errorf("healthy: %d connections", n)
			}
		})
	}
	all.Wait()
	if n := delivered.Load(); n != healthy*requests {
		t.Errorf("%d of %d delivered", n, healthy*requests)
	}
	for name, r := range receivers {
		if n := r.accepted.Load(); n > each {
			t.Errorf("%s: %d connections for %d attempts", name, n, each)
		}
	}
	c.Close()
	// What is left are listeners, and the ends of those who do not read.
	left := len(kinds) + healthy + each
	for deadline := time.Now().Add(enough); openFiles(t)-files > left+5; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors more than before, want %d", openFiles(t)-files, left)
		}
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here")
	}
	return len(fds)
}

// The body lies between the two writes of a large request, and TLS may not be able to say goodbye.
func TestAReceiverThatDoesNotReadHoldsNobody(t *testing.T) {
	authority := newPKI(t)
	hold := holding(t)
	config := &tls.Config{Certificates: []tls.Certificate{authority.leaf(t, "hook.test", time.Hour)}}
	for scheme, serve := range map[string]func(net.Conn){
		"http": hold, "https": func(c net.Conn) {
			s := tls.Server(c, config)
			s.Handshake()
			hold(s)
		},
	} {
		r := listen(t, "127.0.0.1:0", serve)
		ns := newNameServer(t)
		ns.set("hook.test", "127.0.0.1")
		c := newClient(t, Options{AllowLoopback: true, AllowHTTP: true, RootCAs: authority.pool, DialNameServer: ns.dial})
		res := c.Do(t.Context(), &Request{Method: "POST", URL: scheme + "://hook.test:" + port(r), Body: make([]byte, 16<<20), Timeout: 2 * short})
		if res.Error != fanfare.ErrTimeout || !strings.Contains(res.Detail, "no response") {
			t.Errorf("%s: %+v", scheme, res)
		}
		if res.Duration > 2*time.Second { // crypto/tls would wait five for its goodbye
			t.Errorf("%s: it took %v", scheme, res.Duration)
		}
	}
}

func TestARefusalBeforeTheWholeRequestWasReadIsHeard(t *testing.T) {
	r := listen(t, "127.0.0.1:0", func(c net.Conn) {
		c.Read(make([]byte, 100))
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
		c.(*net.TCPConn).CloseWrite()
		io.CopyN(io.Discard, c, 64<<10)
	})
	c := devClient(t)
	for range 2 { // the second has a connection of its own
		res := c.Do(t.Context(), &Request{Method: "POST", URL: "http://" + r.addr, Body: make([]byte, 16<<20), Timeout: enough})
		if res.Status != 413 || res.Error != "" || string(res.Body) != "no" {
			t.Errorf("%+v", res)
		}
	}
	if n := r.accepted.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestAGzipBombIsAsSmallAsItLooks(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(make([]byte, 5<<20)) // makes 5 KiB
	z.Close()
	r := listen(t, "127.0.0.1:0", serveHTTP(func(w http.ResponseWriter, r *http.Request) {
		if v := r.Header.Values("Accept-Encoding"); len(v) > 0 {
			t.Errorf("we ask for %q", v)
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(500)
		w.Write(bomb.Bytes())
	}))
	if res := post(devClient(t), "http://"+r.addr, enough); res.Error != "" || !bytes.Equal(res.Body, bomb.Bytes()[:keptFailure]) {
		t.Errorf("%q, %d bytes", res.Error, len(res.Body))
	}
}

// After a connection turned out stale the others to that receiver are as old, or older.
func TestAStaleConnectionTakesTheOthersWithIt(t *testing.T) {
	const n = 4
	var together sync.WaitGroup
	together.Add(n)
	second := make(chan struct{})
	r := listen(t, "127.0.0.1:0", func(c net.Conn) {
		readRequest(c)
		together.Done()
		together.Wait()
		io.WriteString(c, okAnswer)
		if readRequest(c) { // and closes
			close(second)
		}
	})
	c := devClient(t)
	var all sync.WaitGroup
	for range n {
		all.Go(func() { post(c, "http://"+r.addr, enough) })
	}
	all.Wait()
	if c.idle.count != n {
		t.Fatalf("%d idle connections", c.idle.count)
	}
	res := post(c, "http://"+r.addr, enough)
	if res.Error != fanfare.ErrConnect || !res.Stale {
		t.Errorf("%+v", res)
	}
	<-second
	if c.idle.count != 0 {
		t.Errorf("%d connections are kept", c.idle.count)
	}
	together.Add(1)
	if res := post(c, "http://"+r.addr, enough); res.Error != "" || res.Stale || r.accepted.Load() != n+1 {
		t.Errorf("%+v, %d connections", res, r.accepted.Load())
	}
}

func TestAFirstRequestIsNeverStale(t *testing.T) {
	r := listen(t, "127.0.0.1:0", answering("", "close"))
	if res := post(devClient(t), "http://"+r.addr, enough); res.Error != fanfare.ErrConnect || res.Stale {
		t.Errorf("%+v", res)
	}
}

// A silent kept connection is a slow receiver: the request is there.
func TestATimeoutIsNeverStale(t *testing.T) {
	var requests atomic.Int64
	r := listen(t, "127.0.0.1:0", func(c net.Conn) {
		for readRequest(c) {
			if requests.Add(1) == 1 {
				io.WriteString(c, okAnswer)
			}
		}
	})
	c := devClient(t)
	post(c, "http://"+r.addr, enough)
	if res := post(c, "http://"+r.addr, short); res.Error != fanfare.ErrTimeout || res.Stale || requests.Load() != 2 || res.Duration >= enough {
		t.Errorf("%+v, %d requests", res, requests.Load())
	}
}

func TestTheEndOfTheContextEndsAnAttemptInEachPhase(t *testing.T) {
	for name, text := range map[string]string{
		"before the response": "",
		"within its header":   "HTTP/1.1 200 OK\r\nX-A:",
		"within its body":     "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan struct{})
		r := listen(t, "127.0.0.1:0", func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, text)
			cancel()
			io.Copy(io.Discard, c)
			close(gone)
		})
		c := devClient(t)
		res := c.Do(ctx, &Request{Method: "POST", URL: "http://" + r.addr, Body: []byte(`{"a":1}`), Timeout: enough})
		if res.Error != fanfare.ErrOwn || !res.OwnFault || res.Stale || res.Duration >= enough {
			t.Errorf("%s: %+v", name, res)
		}
		<-gone
		if res := c.Do(ctx, &Request{Method: "POST", URL: "http://" + r.addr}); res.Error != fanfare.ErrOwn || r.accepted.Load() != 1 {
			t.Errorf("%s: after the end: %+v", name, res)
		}
	}
}

// An interruption that comes late would end the next request.
func TestAConnectionThatIsBeingInterruptedIsNotKept(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	interrupting, release := make(chan struct{}), make(chan struct{})
	r := listen(t, "127.0.0.1:0", func(c net.Conn) {
		readRequest(c)
		cancel()
		<-interrupting
		io.WriteString(c, okAnswer)
		silent(c)
	})
	c := devClient(t)
	req := &Request{Method: "POST", URL: "http://" + r.addr, Body: []byte(`{"a":1}`)}
	to, _ := c.target(req.Method, req.URL)
	cn, err := c.connect(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	cn.interrupt = func() {
		close(interrupting)
		<-release
	}
	var res Result
	err = c.exchange(ctx, cn, to, req, &res, &attempt{})
	close(release)
	if err != nil || res.Status != 200 || c.idle.count != 0 {
		t.Errorf("%v, %+v, %d connections are kept", err, res, c.idle.count)
	}
}

func TestConnectionsAreKeptOverTLS(t *testing.T) {
	authority := newPKI(t)
	config := &tls.Config{Certificates: []tls.Certificate{authority.leaf(t, "hook.test", time.Hour)}}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := config.Clone()
		config.MaxVersion = version
		r := listen(t, "127.0.0.1:0", overTLS(config, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
		ns := newNameServer(t)
		ns.set("hook.test", "127.0.0.1")
		c := newClient(t, Options{AllowLoopback: true, RootCAs: authority.pool, DialNameServer: ns.dial})
		for range 20 {
			if res := post(c, "https://hook.test:"+port(r), enough); res.Error != "" || string(res.Body) != "ok" {
				t.Fatalf("%+v", res)
			}
		}
		if n := r.accepted.Load(); n != 1 {
			t.Errorf("TLS %x: %d connections for 20 requests in a row", version, n)
		}
	}
}

// cutting sends half of what is written once it is armed, and closes.
type cutting struct {
	net.Conn
	armed bool
}

func (c *cutting) Write(p []byte) (int, error) {
	if c.armed {
		c.Conn.Write(p[:len(p)/2])
		c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// A body without a length is complete when the connection ends, but not within a record of TLS.
func TestABodyWithoutLengthIsNotCutWithinARecord(t *testing.T) {
	authority := newPKI(t)
	config := &tls.Config{Certificates: []tls.Certificate{authority.leaf(t, "hook.test", time.Hour)}}
	for cut, want := range map[bool]fanfare.ErrorCode{false: "", true: fanfare.ErrProtocol} {
		r := listen(t, "127.0.0.1:0", func(c net.Conn) {
			half := &cutting{Conn: c}
			overTLS(config, func(c net.Conn) {
				readRequest(c)
				io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nabc")
				half.armed = cut
				io.WriteString(c, "def")
			})(half)
		})
		ns := newNameServer(t)
		ns.set("hook.test", "127.0.0.1")
		c := newClient(t, Options{AllowLoopback: true, RootCAs: authority.pool, DialNameServer: ns.dial})
		if res := post(c, "https://hook.test:"+port(r), enough); res.Error != want || res.Status != 200 || !strings.HasPrefix(string(res.Body), "abc") {
			t.Errorf("%+v, want %q", res, want)
		}
	}
}

func TestAPanicEndsTheAttemptAlone(t *testing.T) {
	gone := make(chan struct{}, 1)
	r := listen(t, "127.0.0.1:0", func(c net.Conn) {
		io.Copy(io.Discard, c)
		gone <- struct{}{}
	})
	var log strings.Builder
	c := newClient(t, Options{AllowLoopback: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
	c.readBuffers.New = func() any { panic("injected") }
	res := post(c, "http://"+r.addr, enough)
	if res.Error != fanfare.ErrProtocol || res.OwnFault || strings.Contains(res.Detail, "injected") || !strings.Contains(log.String(), "injected") {
		t.Errorf("%+v, log %q", res, log.String())
	}
	<-gone // its connection is closed

	c.idle = nil
	if res := post(c, "http://"+r.addr, enough); res.Error != fanfare.ErrOwn || !res.OwnFault {
		t.Errorf("%+v", res)
	}
	c.idle = newPool(1, 1, time.Hour)
}
