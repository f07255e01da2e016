package bench

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// sqlMetric counts the statements that a node sent to Postgres.
const sqlMetric = "fanfare_sql_statements_total"

// readMetric asks a node's admin listener for a counter; ok is false if it does not have it.
func (c *client) readMetric(ctx context.Context, admin, name string) (value float64, ok bool) {
	if admin == "" {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(admin, "/")+"/metrics", nil)
	if err != nil {
		return 0, false
	}
	response, err := c.http.Do(r)
	if err != nil {
		return 0, false
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, false
	}
	return scanMetric(response.Body, name)
}

// scanMetric adds up the series of a metric in Prometheus' text format; ok is false if there is none.
func scanMetric(text io.Reader, name string) (sum float64, ok bool) {
	for lines := bufio.NewScanner(text); lines.Scan(); {
		rest, found := strings.CutPrefix(lines.Text(), name)
		if !found || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue // also of a longer name
		}
		if end := strings.LastIndexByte(rest, '}'); end >= 0 { // a label's value may hold anything, also spaces
			rest = rest[end+1:]
		}
		fields := strings.Fields(rest) // value and, perhaps, time
		if len(fields) == 0 {
			continue
		}
		if v, err := strconv.ParseFloat(fields[0], 64); err == nil {
			sum, ok = sum+v, true
		}
	}
	return sum, ok
}
