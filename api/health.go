package api

import (
	"encoding/json"
	"net/http"
	"net/mail"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/disabler"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
)

const (
	maxEmails    = 10
	maxEmail     = 254 // of RFC 5321, section 4.5.3.1.3, less the angle brackets
	minStats     = 10 * time.Minute
	maxStats     = 24 * time.Hour
	defaultStats = 24 * time.Hour
)

// healthState is the state that a webhook's endpoint is in, told from the last hour, and from the last day
// while nothing went well in the hour: thresholds are the platform's defaults, whatever policy disables by.
func healthState(enabled bool, h *store.Health) string {
	count := func(s store.HealthSum) retry.HealthCount {
		return retry.HealthCount{Attempts: s.Attempts, Failures: s.Failures}
	}
	switch {
	case !enabled:
		return "disabled"
	case retry.DefaultHealth.Enough(count(h.Hour)),
		h.Hour.Failures == h.Hour.Attempts && retry.DefaultHealth.Enough(count(h.Day)):
		return "failing"
	}
	return "healthy"
}

func writeHealth(w *writer, enabled bool, h *store.Health) {
	w.object("health")
	w.text("state", healthState(enabled, h))
	writeRatio(w, "failure_ratio_1h", h.Hour)
	writeRatio(w, "failure_ratio_24h", h.Day)
	writePercentile(w, "p50_ms_1h", h.Hour, 0.5)
	writePercentile(w, "p95_ms_1h", h.Hour, 0.95)
	w.close()
}

// writeRatio is null without attempts.
func writeRatio(w *writer, name string, s store.HealthSum) {
	if s.Attempts == 0 {
		w.null(name)
		return
	}
	w.ratio(name, float64(s.Failures)/float64(s.Attempts))
}

func writePercentile(w *writer, name string, s store.HealthSum, q float64) {
	d, ok := s.Percentile(q)
	if !ok {
		w.null(name)
		return
	}
	w.milliseconds(name, d.Round(100*time.Microsecond))
}

// health reads how one webhook does.
func (s *Server) health(c *call, hook *fanfare.Webhook) (*store.Health, error) {
	all, err := s.store.Health(c.r.Context(), hook.AccountID, []fanfare.Webhook{*hook})
	if err != nil {
		return nil, err
	}
	return &all[0], nil
}

// statsBucket is how long a stretch of a chart is: there are some tens to a hundred of them.
func statsBucket(window time.Duration) time.Duration {
	switch {
	case window <= time.Hour:
		return time.Minute
	case window <= 6*time.Hour:
		return 5 * time.Minute
	}
	return 15 * time.Minute
}

func (s *Server) webhookStats(c *call) (answer, error) {
	id, err := c.pathID("webhook")
	if err != nil {
		return answer{}, err
	}
	window := defaultStats
	if text, ok := c.param("window"); ok {
		var sound error
		if window, sound = retry.ParseDuration(text); sound != nil {
			c.faults.param("window", codeInvalidFormat, sound.Error())
		} else if window < minStats || window > maxStats {
			c.faults.param("window", codeOutOfRange, "must be from "+retry.FormatDuration(minStats)+" to "+retry.FormatDuration(maxStats))
		}
	}
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	hook, err := s.store.Webhook(c.r.Context(), c.account, id)
	if err != nil {
		return answer{}, err
	}
	bucket := statsBucket(window)
	n := int((window + bucket - 1) / bucket)
	from := time.Now().UTC().Truncate(bucket).Add(-time.Duration(n-1) * bucket)
	buckets, err := s.store.HealthBuckets(c.r.Context(), c.account, hook.ID, from, bucket, n)
	if err != nil {
		return answer{}, err
	}
	var all store.HealthSum
	for _, b := range buckets {
		all.Add(b)
	}
	var w writer
	w.open()
	w.text("window", retry.FormatDuration(window))
	w.text("bucket", retry.FormatDuration(bucket))
	writeSum(&w, all)
	w.list("data")
	for i, b := range buckets {
		w.open()
		w.time("at", from.Add(time.Duration(i)*bucket))
		writeSum(&w, b)
		w.close()
	}
	w.endList()
	w.close()
	return answer{status: http.StatusOK, body: w.b}, nil
}

func writeSum(w *writer, s store.HealthSum) {
	w.integer("attempts", int64(s.Attempts))
	w.integer("failures", int64(s.Failures))
	writeRatio(w, "failure_ratio", s)
	writePercentile(w, "p50_ms", s, 0.5)
	writePercentile(w, "p95_ms", s, 0.95)
}

// emails reads addresses to mail to. Null is none.
func (v value) emails() (list []string) {
	if v.null() {
		return nil
	}
	v.list(maxEmails, func(v value) {
		text, ok := v.text(maxEmail)
		if ok && !validEmail(text) {
			v.fault(codeInvalidFormat, "is not a mail address such as ops@example.com")
		}
		list = append(list, text)
	})
	return list
}

// validEmail takes a bare address of printable ASCII, so that a header can hold it as it is.
func validEmail(text string) bool {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>,;:"()[]\`, r) }) {
		return false
	}
	a, err := mail.ParseAddress(text)
	return err == nil && a.Address == text && strings.Contains(text, ".")
}

// healthPolicy reads what an account or a webhook changes about its policy, in the form in which it is kept.
// Null, and an object without members, change nothing.
func (v value) healthPolicy() []byte {
	var o retry.HealthOverride
	if v.null() {
		return nil
	}
	flag := func(to **bool) func(value) {
		return func(v value) {
			if is, ok := v.boolean(); ok {
				*to = &is
			}
		}
	}
	number := func(to **int, least, most int) func(value) {
		return func(v value) {
			if n, ok := v.integer(least, most); ok {
				*to = &n
			}
		}
	}
	length := func(to **retry.Duration, least, most time.Duration) func(value) {
		return func(v value) {
			if d, ok := v.duration(least, most); ok {
				*to = (*retry.Duration)(&d)
			}
		}
	}
	inherited := func(take func(value)) func(value) {
		return func(v value) {
			if !v.null() {
				take(v)
			}
		}
	}
	fields := []field{
		{name: "disable", take: flag(&o.Disable)},
		{name: "warn", take: flag(&o.Warn)},
		{name: "failure_percent", take: number(&o.Percent, 1, 100)},
		{name: "min_attempts", take: number(&o.MinAttempts, 1, retry.MaxMinAttempts)},
		{name: "window", take: length(&o.Window, retry.MinHealthWindow, retry.MaxHealthWindow)},
		{name: "burst_failures", take: number(&o.Burst, 0, retry.MaxBurst)},
		{name: "burst_within", take: length(&o.BurstWithin, retry.MinBurstWithin, retry.MaxBurstWithin)},
		{name: "exhausted_in_a_row", take: number(&o.Exhausted, 0, retry.MaxExhausted)},
		{name: "grace", take: length(&o.Grace, 0, retry.MaxHealthGrace)},
	}
	for i := range fields {
		fields[i].take = inherited(fields[i].take)
	}
	v.object(fields...)
	kept, err := json.Marshal(o)
	if err != nil || string(kept) == "{}" {
		return nil
	}
	return kept
}

// mayWritePolicy says whether a call may change the health policy of the path's account and of its webhooks:
// that is for those above it.
func (c *call) mayWritePolicy() bool { return isPlatform(c.key) || c.key.AccountID.UUID != c.account }

var errPolicy = &problem{
	status: http.StatusForbidden, code: codeNotAllowed,
	detail: "A health policy is changed with a key of an account above, or of the platform.",
}

// reEnable enables what the service has disabled, and leaves alone what somebody did.
func (s *Server) reEnable(c *call) (answer, error) {
	var descendants bool
	if err := c.decode(descendantsField(&descendants)); err != nil {
		return answer{}, err
	}
	n, err := s.store.ReEnable(c.r.Context(), c.account, descendants)
	if err != nil {
		return answer{}, err
	}
	var w writer
	w.open()
	w.integer("enabled", int64(n))
	w.close()
	return s.keep(c, answer{status: http.StatusOK, body: w.b})
}

func descendantsField(to *bool) field {
	return field{name: "descendants", take: func(v value) {
		if !v.null() {
			*to, _ = v.boolean()
		}
	}}
}

// testPolicy lists what a policy would do now, and does nothing.
func (s *Server) testPolicy(c *call) (answer, error) {
	var descendants bool
	var given []byte
	err := c.decode(descendantsField(&descendants), field{name: "health_policy", take: func(v value) { given = v.healthPolicy() }})
	if err != nil {
		return answer{}, err
	}
	change, err := retry.ParseHealthOverride(given)
	if err != nil {
		return answer{}, err
	}
	p, err := s.page(c, 16, "health policy")
	if err != nil {
		return answer{}, err
	}
	rows, now, err := s.store.FailingOf(c.r.Context(), c.account, descendants, p.id(0), p.limit+1)
	if err != nil {
		return answer{}, err
	}
	rows, next := cut(p, rows, func(f *store.Failing) uuid.UUID { return f.WebhookID })
	snapshot := s.registry.Snapshot()
	type found struct {
		*store.Failing
		retry.HealthJudgement
	}
	var list []found
	for i := range rows {
		f := &rows[i]
		if j := disabler.Judge(snapshot.HealthPolicy(f.AccountID).Override(change), now, f); j.Verdict != retry.HealthFine {
			list = append(list, found{f, j})
		}
	}
	return p.answer(len(list), func(w *writer, i int) {
		f := &list[i]
		w.id("webhook_id", f.WebhookID)
		w.id("account_id", f.AccountID)
		w.text("verdict", string(f.Verdict))
		w.raw("evidence", retry.NewEvidence(f.HealthJudgement).JSON(), "null")
	}, next), nil
}
