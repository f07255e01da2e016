package api

import (
	"github.com/fanfare-webhooks/fanfare"
)

// Route is what tests need to know of a route.
type Route struct {
	Method, Path string
	Scope        fanfare.Scope
	Platform     bool
	Body         int
	Once         bool
	Plain        bool
	Params       []string
}

// Routes lists the server's routes.
func (s *Server) Routes() []Route {
	var list []Route
	for _, rt := range s.routes() {
		body := rt.body
		if rt.path == "/v1/accounts/{account}/events" && rt.method == "POST" {
			body = maxPublishBody
		}
		if rt.path == "/v1/events/batch" {
			body = maxBatchBody
		}
		list = append(list, Route{rt.method, rt.path, rt.scope, rt.platform, body, rt.once, rt.plain != nil, rt.params})
	}
	return list
}

// ValidJSON reports whether a body is one JSON value that the API can read.
func ValidJSON(body []byte) bool {
	_, err := onlyValue(body, maxDepth)
	return err == nil
}

// DataOf finds the data of a publication; nil if the publication has faults.
func DataOf(body []byte) []byte {
	var f faults
	var it item
	start := skipSpace(body, 0)
	if start == len(body) || body[start] != '{' {
		return nil
	}
	end, err := it.read(body, start, &f)
	if err != nil || f.err() != nil || skipSpace(body, end) != len(body) {
		return nil
	}
	return it.Data
}

// EnableLinkAt is the path of a link that was made at a time.
var EnableLinkAt = linkPath
