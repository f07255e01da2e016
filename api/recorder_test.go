package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// recorder holds every request and answer of the tests to openapi.yaml, and remembers which operations
// and statuses were seen.
type recorder struct {
	doc    *openapi3.T
	router routers.Router

	mu   sync.Mutex
	seen map[string]bool // "GET /path 200"
}

var recorded = sync.OnceValues(newRecorder)

func newRecorder() (*recorder, error) {
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(text)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background(), openapi3.IsOpenAPI31OrLater(), openapi3.EnableExamplesValidation()); err != nil {
		return nil, err
	}
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.PlainBodyDecoder)
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return nil, err
	}
	return &recorder{doc: doc, router: router, seen: make(map[string]bool)}, nil
}

// serve sends a request to a handler and checks both ways. A request that is answered with success must
// be one that the spec allows; every answer must be one that it documents.
func (rec *recorder) serve(t testing.TB, h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	for _, err := range rec.check(r, body, w.Code, w.Header(), w.Body.Bytes()) {
		t.Errorf("%s %s → %d: %v", r.Method, r.URL.Path, w.Code, err)
	}
	return w
}

func (rec *recorder) check(r *http.Request, body []byte, status int, header http.Header, answer []byte) (faults []error) {
	if header.Get("X-Request-Id") == "" {
		faults = append(faults, fmt.Errorf("no X-Request-Id"))
	}
	spec := r.Clone(context.Background())
	spec.URL.Host, spec.URL.Scheme, spec.Host = "", "", ""
	route, params, err := rec.router.FindRoute(spec)
	if err != nil && spec.Method == http.MethodHead { // implied by GET
		spec.Method = http.MethodGet
		route, params, err = rec.router.FindRoute(spec)
	}
	if err != nil {
		if status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
			faults = append(faults, fmt.Errorf("not in the spec: %w", err))
		}
		return append(faults, rec.checkProblem(answer)...)
	}
	rec.mu.Lock()
	rec.seen[fmt.Sprintf("%s %s %d", spec.Method, route.Path, status)] = true
	if route.Operation.Responses.Status(status) == nil {
		rec.seen[spec.Method+" "+route.Path+" default"] = true
	}
	rec.mu.Unlock()

	spec.Body = io.NopCloser(bytes.NewReader(body))
	in := &openapi3filter.RequestValidationInput{
		Request: spec, PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true,
			IncludeResponseStatus: true, MultiError: true,
		},
	}
	if status < 400 {
		if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
			faults = append(faults, fmt.Errorf("served, but the spec does not allow the request: %w", err))
		}
	}
	if r.Method == http.MethodHead {
		return faults
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: status, Header: header,
		Body: io.NopCloser(bytes.NewReader(answer)), Options: in.Options,
	}
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		faults = append(faults, fmt.Errorf("the answer is not the spec's: %w\n%s", err, answer))
	}
	response := route.Operation.Responses.Status(status)
	if response != nil {
		for name := range header {
			if !documented(response.Value.Headers, name) {
				faults = append(faults, fmt.Errorf("the header %s is not in the spec", name))
			}
		}
	}
	return faults
}

func (rec *recorder) checkProblem(answer []byte) []error {
	schema := rec.doc.Components.Schemas["Problem"].Value
	value, err := decodeJSON(answer)
	if err == nil {
		err = schema.VisitJSON(value, openapi3.EnableJSONSchema2020())
	}
	if err != nil {
		return []error{fmt.Errorf("not a problem: %w", err)}
	}
	return nil
}

// documented leaves out headers that HTTP itself defines for every answer.
func documented(headers openapi3.Headers, name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options", "Content-Security-Policy",
		"Referrer-Policy", "Access-Control-Allow-Origin", "Date":
		return true
	}
	return slices.ContainsFunc(slices.Collect(maps.Keys(headers)), func(h string) bool { return strings.EqualFold(h, name) })
}

// The only parallel test of the package: it runs when all others have ended, and not at all when only
// some were asked for.
func TestTheTestsHaveSeenEveryOperationAndStatusOfTheSpec(t *testing.T) {
	t.Parallel()
	rec, err := recorded()
	if err != nil {
		t.Fatal(err)
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for path, item := range rec.doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status := range op.Responses.Map() {
				if !rec.seen[method+" "+path+" "+status] {
					t.Errorf("no test has seen %s %s answer %s", method, path, status)
				}
			}
		}
	}
}
