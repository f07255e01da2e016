package egress

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fanfare-webhooks/fanfare"
	"golang.org/x/net/idna"
)

// MaxURL is the longest URL that [Client.CheckURL] accepts, in bytes.
const MaxURL = 2048

// Fault is one thing that is wrong with a URL.
type Fault struct {
	Code   fanfare.ErrorCode // ErrBlocked: not allowed here; ErrRequest: not a URL that can be called
	Detail string            // a sentence for the tenant, without a full stop
}

// CheckURL says everything that can be said of a webhook's URL without the network; nil: nothing is
// wrong with it. What its name resolves to is judged when a connection is opened.
//
// It accepts absolute http and https URLs (RFC 3986) of at most [MaxURL] bytes. Beyond the host, which
// may be an internationalised name (UTS #46), they are ASCII, so that what is sent is what was typed.
// An address is accepted only in its usual spelling: the others mean different hosts to different
// resolvers.
func (c *Client) CheckURL(raw string) []Fault {
	_, faults := c.parse(raw)
	if len(raw) > MaxURL {
		faults = append(faults, Fault{fanfare.ErrRequest, "the URL is longer than " + strconv.Itoa(MaxURL) + " bytes"})
	}
	return faults
}

// Endpoint is the host and port that a URL calls, such as "example.com:443": the same for every spelling of them
// that [Client.CheckURL] accepts, whatever the scheme. It is "" for what is no URL.
func Endpoint(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if name, err := idna.Lookup.ToASCII(host); err == nil && !isASCII(host) {
		host = name
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String()
	}
	port := u.Port()
	if port == "" {
		port = defaultPort(u.Scheme)
	}
	return net.JoinHostPort(host, port)
}

// parse checks a URL and brings its host to the form that is dialled: lower case, ASCII. The URL is
// nil if there are faults.
func (c *Client) parse(raw string) (*url.URL, []Fault) {
	var faults []Fault
	request := func(detail string) { faults = append(faults, Fault{fanfare.ErrRequest, detail}) }
	blocked := func(detail string) { faults = append(faults, Fault{fanfare.ErrBlocked, detail}) }

	if !utf8.ValidString(raw) || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		request("the URL contains spaces, control characters or bytes that are not UTF-8")
		return nil, faults
	}
	u, err := url.Parse(raw)
	if err != nil { // its text may quote the userinfo
		request("the URL is not well formed")
		return nil, faults
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		blocked("the scheme is not https")
	}
	if u.User != nil {
		request("the URL contains a user name or password")
	}
	if strings.Contains(raw, "#") {
		request("the URL contains a fragment (#), which is never sent")
	}
	host := u.Hostname()
	if u.Opaque != "" || host == "" {
		request("the URL has no host")
		return nil, faults
	}
	authority, rest := splitAuthority(raw)
	if !isASCII(rest) {
		request("the path or the query contains characters that must be percent-encoded")
	}
	faults = append(faults, c.checkPort(u)...)
	name, hostFaults := c.checkHost(host, strings.Contains(authority, "["))
	faults = append(faults, hostFaults...)
	if u.Scheme == "http" && !c.allowHTTP && !(c.rule.loopback && isLoopback(name)) {
		blocked("http is not allowed, only https")
	}
	if len(faults) > 0 {
		return nil, faults
	}
	if port := u.Port(); port != "" {
		u.Host = net.JoinHostPort(name, port)
	} else if strings.Contains(name, ":") {
		u.Host = "[" + name + "]"
	} else {
		u.Host = name
	}
	return u, nil
}

func (c *Client) checkPort(u *url.URL) []Fault {
	port := u.Port()
	if port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return []Fault{{fanfare.ErrRequest, "the port is empty"}}
		}
		port = defaultPort(u.Scheme)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '0' {
		return []Fault{{fanfare.ErrRequest, "the port is not a number from 1 to 65535"}}
	}
	if slices.Contains(c.rule.denyPorts, uint16(n)) {
		return []Fault{{fanfare.ErrBlocked, "port " + port + " is not allowed"}}
	}
	return nil
}

// checkHost gives the host's ASCII form.
func (c *Client) checkHost(host string, bracketed bool) (string, []Fault) {
	const notAllowed = "the address is not one that may be called"
	if bracketed {
		a, err := netip.ParseAddr(host)
		if err != nil || !a.Is6() || a.Zone() != "" {
			return host, []Fault{{fanfare.ErrRequest, "the host in brackets is not an IPv6 address"}}
		}
		if !c.rule.permits(a) {
			return host, []Fault{{fanfare.ErrBlocked, notAllowed}}
		}
		return a.String(), nil
	}
	name := strings.ToLower(host)
	if !isASCII(host) {
		var err error
		if name, err = idna.Lookup.ToASCII(host); err != nil {
			return host, []Fault{{fanfare.ErrRequest, "the host is not a valid internationalised name"}}
		}
	}
	if endsInNumber(name) {
		a, err := netip.ParseAddr(name)
		if err != nil {
			return name, []Fault{{fanfare.ErrRequest, "the host is an IPv4 address in an unusual spelling"}}
		}
		if !c.rule.permits(a) {
			return name, []Fault{{fanfare.ErrBlocked, notAllowed}}
		}
		return name, nil
	}
	if !validName(name) {
		return name, []Fault{{fanfare.ErrRequest, "the host is not a valid name"}}
	}
	if isLoopback(name) && !c.rule.opensLoopback() || isLocalName(name) && !c.rule.opensLocal() {
		return name, []Fault{{fanfare.ErrBlocked, "the host is a name of a local network"}}
	}
	return name, nil
}

// splitAuthority parts what stands between the // and the path, query or fragment from what follows.
func splitAuthority(raw string) (authority, rest string) {
	_, after, _ := strings.Cut(raw, "//")
	if i := strings.IndexAny(after, "/?#"); i >= 0 {
		return after[:i], after[i:]
	}
	return after, ""
}

// endsInNumber is the test of the WHATWG URL standard for "this is meant to be an IPv4 address": the
// last label is all digits, or 0x and hexadecimal digits.
func endsInNumber(name string) bool {
	name = strings.TrimSuffix(name, ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// validName accepts host names by the rules of the DNS (RFC 1035, lengths) and, beyond RFC 1123, the
// underscore, which real hosts have.
func validName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// isLoopback knows the names and addresses that mean this machine.
func isLoopback(name string) bool {
	if a, err := netip.ParseAddr(name); err == nil {
		return a.Unmap().IsLoopback()
	}
	name = strings.TrimSuffix(name, ".")
	return name == "localhost" || strings.HasSuffix(name, ".localhost") ||
		name == "ip6-localhost" || name == "ip6-loopback"
}

// localSuffixes are domains that the public DNS does not have (RFC 6761, 6762, 8375; ICANN's reserved
// .internal; what home routers, companies and clusters use), and metadata services under names that it has.
var localSuffixes = []string{
	".local", ".internal", ".localdomain", ".lan", ".home", ".corp", ".mail", ".intranet", ".private",
	".home.arpa", ".svc", ".invalid", ".onion", ".metadata.tencentyun.com", ".metadata.packet.net",
}

// isLocalName knows names that a public host cannot have.
func isLocalName(name string) bool {
	name = "." + strings.TrimSuffix(name, ".")
	if isLoopback(name[1:]) {
		return false
	}
	return strings.LastIndexByte(name, '.') == 0 ||
		slices.ContainsFunc(localSuffixes, func(s string) bool { return strings.HasSuffix(name, s) })
}

func defaultPort(scheme string) string {
	if scheme == "http" {
		return "80"
	}
	return "443"
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
