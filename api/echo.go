package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/mux"

	"github.com/fanfare-webhooks/fanfare/internal/echo"
)

// anyMethod stands for every method in a [route].
const anyMethod = "*"

func (s *Server) echoRoutes() []route {
	if s.echo == nil {
		return nil
	}
	return []route{
		{method: anyMethod, path: "/echo/{name}", plain: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.echo.Receive(w, r, mux.Vars(r)["name"])
		})},
		{method: "GET", path: "/echo/{name}/view", plain: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// A stream goes on for as long as it is watched.
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
			s.echo.View(w, r, mux.Vars(r)["name"])
		})},
		{method: "GET", path: "/v1/echo/{name}/requests", handle: (*Server).listEchoes},
	}
}

func (s *Server) listEchoes(c *call) (answer, error) {
	name := mux.Vars(c.r)["name"]
	if !echo.ValidName(name) {
		return answer{}, errNotFound
	}
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	body, err := json.Marshal(map[string][]echo.Request{"data": s.echo.Requests(name)})
	if err != nil {
		return answer{}, fmt.Errorf("write echoes: %w", err)
	}
	return answer{status: http.StatusOK, body: body}, nil
}
