package egress

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fanfare-webhooks/fanfare"
)

// hostile holds, one a line, URLs and hosts that must never be called by a client that only opens the
// public Internet. A line without a scheme is a host, tried with both.
const hostile = `
127.0.0.1
127.0.0.1:22
127.0.0.1:5432
127.255.255.254
0.0.0.0
0.1.2.3
10.0.0.1
172.16.0.1
172.31.255.255
192.168.0.1
169.254.169.254/latest/meta-data/
169.254.170.2/v2/credentials
100.64.0.1
100.100.100.200
192.0.0.192
192.0.2.1
192.88.99.1
198.18.0.1
198.51.100.1
203.0.113.1
224.0.0.1
239.255.255.250:1900
240.0.0.1
255.255.255.255
127.1
127.0.1
2130706433
2852039166
0x7f000001
0X7F000001
0x7f.1
0xA9.0xFE.0xA9.0xFE
017700000001
0251.254.169.254
425.510.425.510
00000127.0.0.1
127.0.0.1.
127.0.0.1.:80
127.0.0.0x1
①②⑦.⓪.⓪.①
１２７.0.0.1
127。0。0。1
127%2e0%2e0%2e1
%31%32%37.0.0.1
0o177.0.0.1
0x
[::1]
[::]
[0:0:0:0:0:0:0:1]
[::ffff:127.0.0.1]
[::ffff:7f00:1]
[0:0:0:0:0:ffff:169.254.169.254]
[::127.0.0.1]
[::a9fe:a9fe]
[::ffff:0:127.0.0.1]
[64:ff9b::7f00:1]
[64:ff9b::a9fe:a9fe]
[64:ff9b::5db8:d822]
[64:ff9b:1::a00:1]
[2002:7f00:1::1]
[2002:a9fe:a9fe::1]
[2001:0:4136:e378:8000:63bf:3fff:fdd2]
[100::1]
[2001:db8::1]
[3fff::1]
[5f00::1]
[fc00::1]
[fd00:ec2::254]
[fd7a:115c:a1e0::1]
[fe80::1]
[fe80::1%25lo]
[::1%25lo]
[2606:4700::1%25lo]
[fec0::1]
[ff02::1]
[ff0e::1]
[127.0.0.1]
[::1
[::1]x
localhost
LOCALHOST
localhost.
a.localhost
ⓛⓞⓒⓐⓛⓗⓞⓢⓣ
ip6-localhost
ip6-loopback
localhost.localdomain
metadata.google.internal
METADATA.GOOGLE.INTERNAL.
metadata.tencentyun.com
metadata.packet.net
rancher-metadata
instance-data
kubernetes.default.svc
kubernetes.default.svc.cluster.local
host.docker.internal
postgres
postgres.
nas.home.arpa
http://u:p@127.0.0.1/
http://example.com@127.0.0.1/
http://127.0.0.1@example.com/
http://a@b@127.0.0.1/
http://127.0.0.1\@example.com/
https://example.com\@127.0.0.1/
https://example.com#@127.0.0.1/
https://@example.com/
http:127.0.0.1/
http:///127.0.0.1/
//127.0.0.1/
https:/example.com/
example.com:80:80
example.com:0
example.com:99999
example.com:0x50
example.com:-1
example.com:+80
example.com:080
example.com:
exa mple.com
a..example.com
.example.com
-a.example.com
example.com,127.0.0.1
example!.com
http://[]/
http://:80/
http://
https://example.com/a b
https://example.com/é
https://example.com/?q=é
https://example.com/%zz
file:///etc/passwd
gopher://127.0.0.1:6379/_FLUSHALL
gopher://example.com/
dict://example.com/
ftp://example.com/
ldap://example.com/
data:text/plain,a
unix:///var/run/docker.sock
javascript:alert(1)
HTTP://example.com/
ws://example.com/
example.com:9999
`

// hostileURLs are the lines above as URLs, and those that a line cannot show.
func hostileURLs() (out []string) {
	for line := range strings.SplitSeq(strings.TrimSpace(hostile), "\n") {
		head, _, _ := strings.Cut(line, "/")
		isURL := strings.HasPrefix(line, "//") || strings.Contains(line, "://") ||
			strings.HasPrefix(line, "http:") || strings.HasPrefix(line, "https:") ||
			strings.HasPrefix(line, "data:") || strings.HasPrefix(line, "javascript:")
		if isURL {
			out = append(out, line)
			continue
		}
		if head == line {
			line += "/"
		}
		out = append(out, "http://"+line, "https://"+line)
	}
	label := strings.Repeat("a", 64)
	long := strings.Repeat("a.", 127) + "com"
	return append(out, "", " https://example.com/", "https://example.com/ ", "\ufeffhttps://example.com/",
		"https://exa\tmple.com/", "https://example.com\r\nHost: a/", "https://example.com/\r\nX: a",
		"https://example.com/\x00", "https://example.com/\xff", "https://"+label+".com/", "https://"+long+"/",
		"https://\u00ad/", "https://xn--a.com\u202e/")
}

// serveClient is as production has it, with one port closed.
func serveClient(t testing.TB) *Client {
	return newClient(t, Options{DenyPorts: []uint16{9999}})
}

func TestHostileURLsAreRefusedAtCreation(t *testing.T) {
	c := serveClient(t)
	for _, raw := range hostileURLs() {
		faults := c.CheckURL(raw)
		if len(faults) == 0 {
			t.Errorf("%q is accepted", raw)
		}
		for _, f := range faults {
			if f.Detail == "" || f.Code != fanfare.ErrBlocked && f.Code != fanfare.ErrRequest {
				t.Errorf("%q: fault %+v", raw, f)
			}
		}
	}
}

func TestHTTPAloneIsNotWhatRefusesHostileURLs(t *testing.T) {
	c := newClient(t, Options{AllowHTTP: true, DenyPorts: []uint16{9999}})
	for _, raw := range hostileURLs() {
		if raw != "HTTP://example.com/" && len(c.CheckURL(raw)) == 0 {
			t.Errorf("%q is accepted", raw)
		}
	}
}

func TestOrdinaryURLsAreAccepted(t *testing.T) {
	c := serveClient(t)
	for _, raw := range []string{
		"https://example.com", "https://example.com/", "https://EXAMPLE.com./hook", "https://example.com:8443/a?b=c&d=%20",
		"https://example.com?x", "https://müller.example/", "https://xn--mller-kva.example/", "https://例え.example/",
		"https://93.184.216.34/", "https://[2606:4700::1]/", "https://[2606:4700::1]:8443/", "https://192.88.98.255/",
		"https://[::ffff:93.184.216.34]/", "https://a_b.example.com/", "https://1.example.com/", "https://0xa.example/",
		"https://example.com/a@b:c;d,e", `https://example.com/a\b`, "https://" + strings.Repeat("a", 63) + ".com/",
		"https://example.com/" + strings.Repeat("p", MaxURL-20),
	} {
		if faults := c.CheckURL(raw); len(faults) > 0 {
			t.Errorf("%q: %v", raw, faults)
		}
	}
	if faults := c.CheckURL("https://example.com/" + strings.Repeat("p", MaxURL-19)); len(faults) != 1 {
		t.Errorf("a URL of %d bytes: %v", MaxURL+1, faults)
	}
}

func TestEveryFaultIsNamedAtOnce(t *testing.T) {
	faults := serveClient(t).CheckURL("http://user:hunter2@127.0.0.1:0/é#f")
	var text string
	for _, f := range faults {
		text += f.Detail + "\n"
	}
	for _, want := range []string{"user name", "fragment", "port", "percent-encoded", "address", "https"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Errorf("the password is in %q", text)
	}
}

func TestWhatTheOperatorOpensIsAccepted(t *testing.T) {
	for name, tc := range map[string]struct {
		o       Options
		yes, no []string
	}{
		"development": {
			Options{AllowLoopback: true},
			[]string{"http://localhost:3000/", "http://127.0.0.1:1/", "http://[::1]/", "https://localhost/", "http://a.localhost/"},
			[]string{"http://example.com/", "http://10.0.0.1/", "https://postgres/", "https://a.internal/", "http://127.1/"},
		},
		"http": {
			Options{AllowHTTP: true},
			[]string{"http://example.com/", "http://93.184.216.34:8080/"},
			[]string{"http://localhost/", "http://127.0.0.1/"},
		},
		"a private network": {
			Options{Allow: prefixes("10.0.0.0/8")},
			[]string{"https://10.1.2.3/", "https://billing.internal/", "https://postgres/", "https://[::ffff:10.1.2.3]/"},
			[]string{"https://localhost/", "https://192.168.0.1/", "https://[2002:a01:203::1]/"},
		},
		"loopback as a range": {
			Options{Allow: prefixes("127.0.0.0/8")},
			[]string{"https://localhost/", "https://127.0.0.1/"},
			[]string{"http://localhost/", "https://[::1]/", "https://postgres/"},
		},
		"NAT64": {
			Options{Allow: []netip.Prefix{nat64}},
			[]string{"https://[64:ff9b::5db8:d822]/"},
			[]string{"https://[64:ff9b::7f00:1]/", "https://[64:ff9b::a9fe:a9fe]/"},
		},
	} {
		c := newClient(t, tc.o)
		for _, raw := range tc.yes {
			if faults := c.CheckURL(raw); len(faults) > 0 {
				t.Errorf("%s: %q: %v", name, raw, faults)
			}
		}
		for _, raw := range tc.no {
			if len(c.CheckURL(raw)) == 0 {
				t.Errorf("%s: %q is accepted", name, raw)
			}
		}
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, raw := range hostileURLs() {
		f.Add(raw)
	}
	f.Add("https://müller.example:8443/a?b=c")
	c := newClient(f, Options{AllowHTTP: true})
	f.Fuzz(func(t *testing.T, raw string) {
		u, faults := c.parse(raw)
		if len(c.CheckURL(raw)) > 0 || len(faults) > 0 {
			return
		}
		// What is accepted is dialled as it was checked, and means the same when read again.
		host := u.Hostname()
		if !isASCII(u.Host) || u.User != nil || strings.ContainsAny(u.Host, " @\\/%\r\n") {
			t.Fatalf("%q: host %q", raw, u.Host)
		}
		if a, err := netip.ParseAddr(host); err == nil && !c.rule.permits(a) {
			t.Fatalf("%q: address %s", raw, a)
		}
		if isLoopback(host) || endsInNumber(host) && strings.Count(host, ".") != 3 {
			t.Fatalf("%q: host %q", raw, host)
		}
		again, faults := c.parse(u.Scheme + "://" + u.Host + "/")
		if len(faults) > 0 || again.Host != u.Host {
			t.Fatalf("%q: host %q reads again as %v, %v", raw, u.Host, again, faults)
		}
	})
}

func TestAnEndpointIsTheSameInEverySpelling(t *testing.T) {
	for want, urls := range map[string][]string{
		"example.com:443":      {"https://example.com", "https://Example.COM/a?b#c", "https://example.com:443/x", "https://example.com./", "http://example.com:443"},
		"example.com:80":       {"http://example.com", "http://example.com:80/"},
		"xn--mller-kva.de:443": {"https://müller.de", "https://MÜLLER.de/", "https://xn--mller-kva.de"},
		"[2001:db8::1]:443":    {"https://[2001:db8::1]", "https://[2001:0DB8:0::1]:443/"},
		"192.0.2.1:8080":       {"http://192.0.2.1:8080"},
		"":                     {"", "example.com", "https://", ":"},
	} {
		for _, u := range urls {
			if got := Endpoint(u); got != want {
				t.Errorf("%s is %s, want %s", u, got, want)
			}
		}
	}
}
