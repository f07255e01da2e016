package shape

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseHeadersReadsWhatItIsGiven(t *testing.T) {
	list, faults := ParseHeaders([]byte(` { "X-Env" : "pr\u006fd", "Authorization": {"secret":"Bearer a b"}, "X-Old":{ "secret" : null }, "X-Empty":"" } `))
	if faults != nil {
		t.Fatal(faults)
	}
	want := "[{X-Env prod false false} {Authorization Bearer a b true false} {X-Old  true true} {X-Empty  false false}]"
	if got := fmt.Sprint(list); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestHeadersThatAreRefused(t *testing.T) {
	many := make([]string, MaxHeaders+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"x-%d":"v"`, i)
	}
	long := strings.Repeat("v", MaxHeaderValue)
	for _, c := range []struct{ raw, want string }{
		{`[]`, " wrong_type"},
		{`"x"`, " wrong_type"},
		{`{"":"v"}`, "/ invalid_format"},
		{`{"X Env":"v","X:Env":"v","Ümlaut":"v","x\r\n":"v","\ud800":"v"}`, "/X Env invalid_format, /X:Env invalid_format, /Ümlaut invalid_format, /x\r\n invalid_format, / invalid_format"},
		{`{"X-Env":1,"Y":null,"Z":["v"]}`, "/X-Env wrong_type, /Y wrong_type, /Z wrong_type"},
		{`{"X":"a\r\nY: b"}`, "/X invalid_text"},
		{`{"X":"a\u0000"}`, "/X invalid_text"},
		{`{"X":"a\u007f"}`, "/X invalid_text"},
		{`{"X":"é"}`, "/X invalid_text"},
		{`{"X":"\udc00"}`, "/X invalid_text"},
		{`{"X":" a","Y":"a\t"}`, "/X invalid_format, /Y invalid_format"},
		{`{"X":"{event}","Y":"a {Event_id} b {event_id}"}`, "/X invalid_value"},
		{`{"X":{"secret":"{hook_id}"}}`, "/X/secret invalid_value"},
		{`{"X":{}}`, "/X/secret required"},
		{`{"X":{"secret":1,"other":2}}`, "/X/secret wrong_type, /X/other unknown_field"},
		{`{"X":{"secret":"a","secret":"b"}}`, "/X/secret duplicate_field"},
		{`{"x-env":"a","X-Env":"b"}`, "/X-Env duplicate_field"},
		{`{"` + strings.Repeat("x", MaxHeaderName+1) + `":"a"}`, "/" + strings.Repeat("x", MaxHeaderName+1) + " too_long"},
		{`{"X":"` + long + `v"}`, "/X too_long"},
		{`{"A":"` + long + `","B":"` + long + `","C":"` + long + `","D":"` + long + `"}`, " too_long"},
		{"{" + strings.Join(many, ",") + "}", " too_many"},
		{`{"HOST":"a","Content-Encoding":"gzip"}`, "/HOST invalid_value, /Content-Encoding invalid_value"},
	} {
		_, faults := ParseHeaders([]byte(c.raw))
		if got := faultList(faults); got != c.want {
			t.Errorf("%.100s: %q, want %q", c.raw, got, c.want)
		}
	}
	if _, faults := ParseHeaders([]byte("{" + strings.Join(many[1:], ",") + "}")); faults != nil {
		t.Errorf("as many as there may be: %v", faults)
	}
}

func TestNamesThatAreNotAWebhooksToSet(t *testing.T) {
	for _, name := range []string{
		"Host", "Connection", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
		"Accept-Encoding", "HTTP2-Settings", "User-Agent", "Content-Type", "Content-Length", "Content-Encoding", "Content-Digest", "webhook-id",
		"Webhook-Signature", "webhook-anything", "Idempotency-Key", "X-Idempotency-Key", "Cookie", "Set-Cookie", "X-Fanfare-Attempt", "x-fanfare-",
		"X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-IP", "Via", "Date", "Range",
	} {
		for _, n := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if f := CheckHeaderName(n); f == nil || f.Code != invalidValue {
				t.Errorf("%s: %v", n, f)
			}
		}
	}
	for _, name := range []string{
		"Authorization", "X-Hook-ID", "X-Account-ID", "X-CallCov-Signature", "x-connect-it-token", "X-Webhook-Id", "ContentType", "Accept", "X-Hub-Signature-256", "!#$%&'*+-.^_`|~",
	} {
		if f := CheckHeaderName(name); f != nil {
			t.Errorf("%s: %v", name, f)
		}
	}
}

func TestPlaceholdersAreFilled(t *testing.T) {
	v := &Values{WebhookID: "W", AccountID: "A", EventID: "E", EventType: "call.ended", Attempt: "3"}
	for value, want := range map[string]string{
		"":                      "",
		"plain":                 "plain",
		"{webhook_id}":          "W",
		"{account_id}{attempt}": "A3",
		"a {event_id} b {event_type}; n={attempt}": "a E b call.ended; n=3",
		"{{event_id}}":      "{E}",
		"{}{":               "{}{",
		`{"a":1}`:           `{"a":1}`,
		"{Event_id}":        "{Event_id}",
		"{event_id":         "{event_id",
		"{event_id }":       "{event_id }",
		"event_id}":         "event_id}",
		"{event_{event_id}": "{event_E",
		"{1}{a1}":           "{1}{a1}",
	} {
		template := Compile(value)
		if got := template.Fill(v); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
}

func TestAValueWithoutPlaceholdersCostsNothing(t *testing.T) {
	template, v := Compile("Bearer abc"), &Values{}
	if n := testing.AllocsPerRun(100, func() { template.Fill(v) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
