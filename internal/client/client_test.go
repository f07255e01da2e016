package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "ffk_of-a-test"

// at is a client of a node that answers with handle, at a URL that has a path.
func at(t *testing.T, handle http.HandlerFunc) *Client {
	t.Helper()
	node := httptest.NewServer(handle)
	t.Cleanup(node.Close)
	c, err := New(Target{URL: node.URL + "/api/", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestACallSaysWhatTheAPIWants(t *testing.T) {
	c := at(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%q", fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Header.Get("Authorization"), " ", r.Header.Get("Content-Type"), " ", string(body)))
	})
	const auth = "Bearer " + key
	for _, x := range []struct {
		method, account string
		body            any
		want            string
	}{
		{"GET", "", nil, "GET /api/v1/accounts/me/x?q=1 " + auth + "  "},
		{"GET", "a/b", nil, "GET /api/v1/accounts/a%2Fb/x?q=1 " + auth + "  "},
		{"POST", "me", map[string]int{"n": 1}, "POST /api/v1/accounts/me/x?q=1 " + auth + ` application/json {"n":1}`},
		// The bytes of what is JSON already are somebody's.
		{"POST", "me", []byte(`{"n" : 1e2}`), "POST /api/v1/accounts/me/x?q=1 " + auth + ` application/json {"n" : 1e2}`},
	} {
		var got string
		if err := c.Call(t.Context(), x.method, AccountPath(x.account)+"/x?q=1", x.body, &got); err != nil || got != x.want {
			t.Errorf("%v: %q, want %q", err, got, x.want)
		}
	}
	if err := c.Call(t.Context(), "POST", "/x", func() {}, nil); err == nil {
		t.Error("what cannot be JSON is sent")
	}
}

func TestAnAnswerThatNobodyWantsIsNotRead(t *testing.T) {
	c := at(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err := c.Call(t.Context(), "DELETE", "/x", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestARefusalIsAProblem(t *testing.T) {
	for _, x := range []struct {
		status int
		answer string
		want   Problem
		text   string
	}{
		{401, `{"title":"Unauthorized","status":401,"code":"unauthorized","detail":"No such key."}`, Problem{Status: 401, Code: "unauthorized", Detail: "No such key."}, "401 No such key."},
		{
			422, `{"code":"c","detail":"Three faults.","errors":[{"pointer":"/url","code":"x","detail":"is bad"},{"parameter":"since","detail":"is old"},{"pointer":"","detail":"is empty"}]}`,
			Problem{Status: 422, Code: "c", Detail: "Three faults.", Errors: []Fault{{Pointer: "/url", Detail: "is bad"}, {Parameter: "since", Detail: "is old"}, {Detail: "is empty"}}},
			"422 Three faults. /url is bad. since is old. The body is empty.",
		},
		{410, `{"code":"cursor_expired","detail":"d","oldest":"o"}`, Problem{Status: 410, Code: "cursor_expired", Detail: "d", Oldest: "o"}, "410 d"},
		{409, `{"code":"cursor_ahead","detail":"d","latest":"l"}`, Problem{Status: 409, Code: "cursor_ahead", Detail: "d", Latest: "l"}, "409 d"},
		// What is in between answers something else; a redirect that cannot be followed is no success either.
		{502, `<html>`, Problem{Status: 502}, "URL does not answer as Fanfare does: 502 Bad Gateway"},
		{404, `{"error":"nope"}`, Problem{Status: 404}, "URL does not answer as Fanfare does: 404 Not Found"},
		{422, `{"detail":[{"msg":"nope"}],"code":"c"}`, Problem{Status: 422}, "URL does not answer as Fanfare does: 422 Unprocessable Entity"},
		{304, ``, Problem{Status: 304}, "URL does not answer as Fanfare does: 304 Not Modified"},
	} {
		c := at(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(x.status)
			io.WriteString(w, x.answer) //nolint:errcheck // the client would say
		})
		err := c.Call(t.Context(), "GET", "/x", nil, nil)
		var p *Problem
		if !errors.As(err, &p) || !reflect.DeepEqual(*p, x.want) {
			t.Errorf("%d %s: %#v", x.status, x.answer, p)
		}
		if got := strings.ReplaceAll(fmt.Sprint(err), c.base, "URL"); got != x.text {
			t.Errorf("%q, want %q", got, x.text)
		}
	}
}

func TestWhatIsNoAnswerSaysWhoseItIsNot(t *testing.T) {
	for name, x := range map[string]struct {
		handle http.HandlerFunc
		want   string
	}{
		"not JSON": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, "does not answer as Fanfare does"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, `"a`)
		}, "broke off"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			for block := strings.Repeat(" ", 1<<20); ; {
				if _, err := io.WriteString(w, block); err != nil {
					return
				}
			}
		}, "more than 32 MiB"},
		"nothing": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "cannot be reached: EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			c := at(t, x.handle)
			var answer any
			err := c.Call(t.Context(), "GET", "/x", nil, &answer)
			var p *Problem
			if err == nil || !strings.Contains(err.Error(), c.base+" ") || !strings.Contains(err.Error(), x.want) || errors.As(err, &p) {
				t.Error(err)
			}
		})
	}
}

func TestAnEndedContextIsNoFaultOfTheNode(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := at(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if err := c.Call(ctx, "GET", "/x", nil, nil); err != context.Canceled { //nolint:errorlint // nothing is said about the node
		t.Error(err)
	}
}

func TestATargetThatCannotBeOneIsRefused(t *testing.T) {
	for _, url := range []string{"", "localhost:8080", "//host", "ftp://host", "http://", "http://a b", "http://host?x=1", "http://host#x"} {
		if _, err := New(Target{URL: url, Key: key}); err == nil || !strings.Contains(err.Error(), "no URL of a server") {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, key := range []string{"ffk_x\n", "ffk x", "ffk_é"} {
		_, err := New(Target{URL: "http://localhost", Key: key})
		if err == nil || !strings.Contains(err.Error(), "the key") || strings.Contains(err.Error(), "ffk") {
			t.Errorf("%q: %v", key, err)
		}
	}
}
