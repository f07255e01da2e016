package egress

import (
	"net"
	"net/url"
	"strings"
	"sync"
)

const (
	maxTargets     = 4096 // kept
	maxTargetBytes = 512  // of a URL whose target is kept
)

// target is a URL as a request needs it. It does not change.
type target struct {
	secure bool
	addr   string // host and port to dial
	origin string // scheme, host and port: what may share a connection
	head   string // what follows the method, up to and with the User-Agent
}

func newTarget(u *url.URL, userAgent string) (*target, *failure) {
	port := u.Port()
	if port == "" {
		port = defaultPort(u.Scheme)
	}
	t := &target{secure: u.Scheme == "https", addr: net.JoinHostPort(u.Hostname(), port)}
	t.origin = u.Scheme + "://" + t.addr
	uri := u.RequestURI()
	// The URL's check leaves no such byte: nothing but that check stands between a URL and a second request.
	if strings.ContainsFunc(uri+u.Host, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, requestFault("the URL is not well formed")
	}
	t.head = " " + uri + " HTTP/1.1\r\nHost: " + u.Host + "\r\nUser-Agent: " + userAgent + "\r\n"
	return t, nil
}

// targets remembers what URLs came to, by their text.
type targets struct {
	mu    sync.RWMutex
	byURL map[string]*target // at most maxTargets
}

// target is where a request goes. That of a GET is not kept: its URL carries a payload, and is another one
// each time.
func (c *Client) target(method, raw string) (*target, *failure) {
	c.targets.mu.RLock()
	t := c.targets.byURL[raw]
	c.targets.mu.RUnlock()
	if t != nil {
		return t, nil
	}
	u, faults := c.parse(raw)
	if faults != nil {
		return nil, &failure{code: worst(faults), detail: joinFaults(faults)}
	}
	t, f := newTarget(u, c.userAgent)
	if f == nil && len(raw) <= maxTargetBytes && method != "GET" {
		c.targets.keep(raw, t)
	}
	return t, f
}

func (ts *targets) keep(raw string, t *target) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.byURL == nil {
		ts.byURL = make(map[string]*target)
	}
	if len(ts.byURL) >= maxTargets {
		for some := range ts.byURL {
			delete(ts.byURL, some)
			break
		}
	}
	ts.byURL[raw] = t
}
