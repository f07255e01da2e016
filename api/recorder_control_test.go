package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The recorder finds what it is there to find.
func TestTheRecorderSeesWhatIsNotInTheSpec(t *testing.T) {
	rec, err := newRecorder()
	if err != nil {
		t.Fatal(err)
	}
	const (
		account = `{"id":"0198f3a0-0000-7000-8000-00000000a001","parent_id":null,"name":"n","metadata":{},"settings":{"signature":null,"health_policy":null},"notification_emails":[],"version":1,` +
			`"created_at":"2026-03-01T12:00:00.000Z","updated_at":"2026-03-01T12:00:00.000Z"}`
		problem = `{"type":"urn:x","title":"t","status":404,"detail":"d","code":"not_found","request_id":"r"}`
	)
	headers := func(pairs ...string) http.Header {
		h := http.Header{"X-Request-Id": {"r"}, "Content-Type": {"application/json"}}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	get := func(path string) *http.Request { return httptest.NewRequest("GET", path, nil) }
	post := func(body string) *http.Request {
		r := httptest.NewRequest("POST", "/v1/accounts", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		return r
	}
	created := headers("ETag", `"1"`, "Location", "/v1/accounts/x")
	for name, tc := range map[string]struct {
		request *http.Request
		body    string
		status  int
		header  http.Header
		answer  string
		fine    bool
	}{
		"an answer of the spec":     {get("/v1/accounts/x"), "", 200, headers("ETag", `"1"`), account, true},
		"a path that is not there":  {get("/v1/nowhere"), "", 404, headers(), problem, true},
		"a created account":         {post(`{"name":"n"}`), `{"name":"n"}`, 201, created, account, true},
		"a served unknown path":     {get("/v1/nowhere"), "", 200, headers(), account, false},
		"a 404 that is no problem":  {get("/v1/nowhere"), "", 404, headers(), `{}`, false},
		"another status":            {get("/v1/accounts/x"), "", 418, headers(), problem, false},
		"a missing member":          {get("/v1/accounts/x"), "", 200, headers("ETag", `"1"`), strings.Replace(account, `"name":"n",`, "", 1), false},
		"another member":            {get("/v1/accounts/x"), "", 200, headers("ETag", `"1"`), strings.Replace(account, `{"id"`, `{"x":1,"id"`, 1), false},
		"a time without its digits": {get("/v1/accounts/x"), "", 200, headers("ETag", `"1"`), strings.ReplaceAll(account, ".000Z", "Z"), false},
		"a missing header":          {get("/v1/accounts/x"), "", 200, headers(), account, false},
		"another header":            {get("/v1/accounts/x"), "", 200, headers("ETag", `"1"`, "X-Secret", "x"), account, false},
		"no request id":             {get("/v1/accounts/x"), "", 200, http.Header{"Content-Type": {"application/json"}, "Etag": {`"1"`}}, account, false},
		"a served unfit request":    {post(`{"name":1}`), `{"name":1}`, 201, created, account, false},
		"a served unknown param":    {get("/v1/accounts?limit=1000"), "", 200, headers(), `{"data":[],"next":null}`, false},
		"an unknown code":           {get("/v1/accounts/x"), "", 404, headers("Content-Type", "application/problem+json"), strings.Replace(problem, "not_found", "lost", 1), false},
	} {
		faults := rec.check(tc.request, []byte(tc.body), tc.status, tc.header, []byte(tc.answer))
		if tc.fine && len(faults) > 0 || !tc.fine && len(faults) == 0 {
			t.Errorf("%s: %v", name, faults)
		}
	}
}
