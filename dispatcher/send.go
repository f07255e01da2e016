package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/weaken"
	"github.com/fanfare-webhooks/fanfare/registry"
	"github.com/fanfare-webhooks/fanfare/retry"
)

// maxTakeovers is how many nodes may die with a retry in hand before it is suspected of killing them.
const maxTakeovers = 3

// maxFree is how many attempts of a delivery may cost no try because a connection was closed under them.
const maxFree = 3

// enqueue hands deliveries to the senders. Those that find no room wait in Postgres instead. It does not
// wait for the recorder: the loops that queue would stand still.
func (d *Dispatcher) enqueue(ds []*delivery) {
	start, over := d.queue.push(ds)
	d.startSenders(start)
	d.park(over)
}

// park has deliveries wait in Postgres, without losing a try, until there is room for them.
func (d *Dispatcher) park(ds []*delivery) {
	if len(ds) == 0 {
		return
	}
	d.metrics.parked.Add(float64(len(ds)))
	for _, dl := range ds {
		d.admission.parks(dl.account, 1)
	}
	d.senders.Go(func() {
		for _, dl := range ds {
			d.recorder.add(d.parked(dl))
			d.admission.parks(dl.account, -1)
		}
	})
}

func (d *Dispatcher) startSenders(n int) {
	if n == 0 { // most often, and not only by those whom a stop waits for
		return
	}
	d.senders.Add(n)
	for range n {
		go d.sender()
	}
}

// sender takes deliveries until none is ready or the node may start no request.
func (d *Dispatcher) sender() {
	defer d.senders.Done()
	for {
		if !d.node.mayStart() {
			d.queue.end()
			if d.node.mayStart() { // renewed since: whoever did so may have counted this sender
				d.startSenders(d.queue.wake())
			}
			return
		}
		dl, start := d.queue.take()
		d.startSenders(start)
		if dl == nil {
			return
		}
		w, gone := d.lookup(dl)
		var o store.Outcome
		var learned lesson
		switch behind := w != nil && w.Enabled() && dl.behind(w); {
		case behind && d.queue.putBack(dl, w):
			continue
		case behind:
			o = d.parked(dl)
		default:
			o, learned = d.send(dl, w, gone)
		}
		d.recorder.add(o)
		d.park(d.queue.done(dl, learned))
	}
}

// paceLoop lets webhooks go on that had to wait for a time: a rate limit, a rest, the next probe.
func (d *Dispatcher) paceLoop(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.queue.paced.wake:
		case <-t.C:
		}
		now := time.Now()
		hooks, next := d.queue.paced.pop(now, math.MaxInt)
		d.startSenders(d.queue.resume(hooks))
		wait := rescanEvery
		if !next.IsZero() {
			wait = min(wait, time.Until(next))
		}
		t.Reset(wait)
		d.progressed.tick("pace")
	}
}

// mine reports whether a request about the delivery may start: this incarnation has it in hand, and no
// other node can have taken over. What is said of a delivery that is somebody else's by now changes
// nothing: the recorder's fence sees to that.
func (d *Dispatcher) mine(dl *delivery) bool { return dl.owner == d.node.id() && d.node.mayStart() }

// behind reports whether the queue let the delivery go by less than w says.
func (dl *delivery) behind(w *registry.Webhook) bool {
	return dl.destination == 0 && (dl.hook == nil || dl.hook.Version < w.Version)
}

// send brings a delivery to its next outcome: an attempt, or a decision without one. Without a webhook it is gone
// that says why.
func (d *Dispatcher) send(dl *delivery, w *registry.Webhook, gone fanfare.Reason) (store.Outcome, lesson) {
	now := d.node.now()
	switch {
	case w == nil && gone == "":
		return d.parked(dl), lesson{}
	case w == nil:
		return d.decided(dl, w, fanfare.Discarded, gone), lesson{}
	case !w.Enabled() && !dl.event.test:
		return d.decided(dl, w, fanfare.Discarded, fanfare.ReasonWebhookDisabled), lesson{}
	case dl.takeovers >= maxTakeovers:
		d.metrics.quarantined.Inc()
		d.log.Warn("delivery quarantined: nodes die with it", "event", dl.event.id, "webhook", dl.webhook)
		return d.decided(dl, w, fanfare.Exhausted, fanfare.ReasonQuarantined), lesson{}
	case retry.Schedule(w.RetrySchedule).Expired(dl.firstAt, now):
		return d.decided(dl, w, fanfare.Exhausted, fanfare.ReasonExpired), lesson{}
	}
	req, fault := d.request(dl, w)
	// Both the registry and the log may have been asked: the lease counts now, not when that began.
	if !d.mine(dl) {
		return d.parked(dl), lesson{}
	}
	return d.attempt(dl, w, req, fault)
}

// hookOf is the webhook that a delivery is for, or what stands for one; nil: it is not known here. certain is
// false if it may be known better by now.
func (d *Dispatcher) hookOf(dl *delivery) (w *registry.Webhook, certain bool) {
	snap := d.registry.Snapshot()
	if dl.destination > 0 {
		return d.oneOff(dl.account), snap.Signs(dl.account)
	}
	w = snap.Webhook(dl.webhook)
	return w, w != nil
}

// lookup finds the webhook, or says why there is none. It knows neither only when the node stops.
func (d *Dispatcher) lookup(dl *delivery) (*registry.Webhook, fanfare.Reason) {
	w, certain := d.hookOf(dl)
	if !certain && d.registry.PolledAt().Before(dl.queuedAt) {
		// It may be newer than this node's registry: never say deleted without having asked.
		for d.registry.CatchUp(d.sendCtx) != nil {
			select {
			case <-d.sendCtx.Done():
				return nil, ""
			case <-time.After(time.Second):
			}
		}
		w, _ = d.hookOf(dl)
	}
	switch snap := d.registry.Snapshot(); {
	case w != nil:
		return w, ""
	case !snap.Account(dl.account):
		return nil, fanfare.ReasonAccountDeleted
	default:
		return nil, fanfare.ReasonWebhookDeleted
	}
}

// attempt makes one request, unless there is none for a fault, and turns what came back into an outcome.
func (d *Dispatcher) attempt(dl *delivery, w *registry.Webhook, req *egress.Request, fault *egress.Result) (store.Outcome, lesson) {
	a := d.newAttempt(dl, w)
	a.Number, a.URL, a.Method = dl.number+1, w.URL, w.Method()
	first := dl.number == 0
	if first {
		dl.firstAt = a.StartedAt
		if !dl.event.test {
			waited := a.StartedAt.Sub(fanfare.EventTime(dl.event.id))
			d.metrics.startSeconds[dl.endpoint].Observe(waited.Seconds())
		}
	}
	r := fault
	if r == nil {
		sent := d.egress.Do(d.sendCtx, req)
		r = &sent
	}
	a.Duration = r.Duration
	a.Status, a.ResponseHeaders, a.ResponseBody = r.Status, r.Header, r.Body
	a.ErrorDetail = r.Detail

	ended := a.StartedAt.Add(r.Duration)
	out := retry.Judge(retry.Answer{
		Status: r.Status, Error: r.Error, RetryAfter: r.RetryAfter, Stale: r.Stale && dl.number-dl.tries < maxFree,
	}, ended)
	if out.Verdict == fanfare.VerdictGone && !dl.event.test && dl.destination == 0 && !d.disableGone(w, a, ended) {
		out.Verdict, out.Charged = fanfare.VerdictRetry, false
	}
	next := retry.Schedule(w.RetrySchedule).AfterAttempt(retry.Ended{
		Outcome: out, Trigger: dl.trigger, At: ended, First: dl.firstAt, Tries: dl.tries,
	}, rand.Float64()) //nolint:gosec // jitter
	if weaken.Off(weaken.Schedule) && next.State == fanfare.Pending {
		next.RetryAt = ended
	}
	a.Verdict, a.Error = out.Verdict, out.Error
	if a.ErrorDetail == "" {
		a.ErrorDetail = answered(out.Error, r.Status)
	}
	a.State, a.Reason, a.RetryAt = next.State, next.Reason, next.RetryAt
	d.metrics.attempted(a, first, dl.event)
	if out.Charged && fault == nil && dl.destination == 0 {
		d.health.ended(a)
	}
	d.logAttempt(a)

	o := store.Outcome{Attempt: a, Owner: dl.owner, Group: dl.groupID(), Due: dl.due, Told: dl.told(a.State)}
	if a.State == fanfare.Pending {
		o.Retry = &store.Retry{
			WebhookID: dl.webhook, EventID: dl.event.id, AccountID: dl.account, Trigger: fanfare.TriggerRetry,
			Number: a.Number, Tries: next.Tries, FirstAt: dl.firstAt, DueAt: next.RetryAt, Destination: dl.destination,
		}
	}
	l := learned(out, r, w.URL, next.RetryAt.Sub(ended))
	if dl.destination > 0 {
		l = ofHost(l, out)
	}
	return o, l
}

// learned is what an attempt says about its endpoint; gap is until the delivery's next.
func learned(out retry.Outcome, r *egress.Result, url string, gap time.Duration) lesson {
	l := lesson{kind: failed, url: url, took: r.Duration, rest: out.RetryAfter, gap: gap}
	switch {
	case !out.Charged:
		l.kind = ourFault
	case out.Verdict == fanfare.VerdictReject: // nobody was asked
		l.kind = learnedNothing
	case out.Verdict == fanfare.VerdictDelivered:
		l.kind = succeeded
	case r.Status == http.StatusTooManyRequests:
		l.kind = busy
	case r.Status >= 500 || out.Error == fanfare.ErrTimeout || out.Error == fanfare.ErrConnect:
		l.kind = overloaded
	}
	return l
}

// answered explains a response that is no success.
func answered(code fanfare.ErrorCode, status int) string {
	switch code {
	case fanfare.ErrStatus:
		return fmt.Sprintf("the receiver answered %d", status)
	case fanfare.ErrRedirect:
		return fmt.Sprintf("the receiver answered %d; redirects are not followed", status)
	default:
		return ""
	}
}

// disableGone switches a webhook off whose receiver answered 410. It tries until that is durable, since
// the attempt's record says so; false means that the node stops first, or that the webhook has another
// URL by now.
func (d *Dispatcher) disableGone(w *registry.Webhook, a *fanfare.Attempt, at time.Time) bool {
	evidence := goneEvidence(a).JSON()
	for {
		ctx, cancel := context.WithTimeout(d.sendCtx, engineDeadline)
		changed, err := d.store.DisableWebhook(ctx, w.ID, w.URL, fanfare.Disabled{
			By: fanfare.DisabledByGone, Reason: "the receiver answered 410 Gone", At: at, Evidence: string(evidence),
		})
		cancel()
		if errors.Is(err, store.ErrVersion) {
			return false
		}
		if err == nil {
			if changed {
				d.metrics.disabled.WithLabelValues(fanfare.DisabledByGone).Inc()
				d.log.Info("webhook disabled: its receiver answered 410", "webhook", w.ID, "account", w.AccountID)
			}
			return true
		}
		d.log.Error("a webhook could not be disabled", "webhook", w.ID, "error", err)
		select {
		case <-d.sendCtx.Done():
			return false
		case <-time.After(time.Second):
		}
	}
}

// goneEvidence is the one answer that was enough.
func goneEvidence(a *fanfare.Attempt) retry.Evidence {
	e := retry.NewEvidence(retry.HealthJudgement{Rule: retry.RuleGone, Count: retry.HealthCount{Attempts: 1, Failures: 1}})
	e.Samples = []retry.Sample{
		retry.NewSample(a.EventID.String(), a.ID.String(), a.StartedAt, a.Status, fanfare.ErrStatus, a.ResponseBody),
	}
	return e
}

// decided ends a delivery without a request.
func (d *Dispatcher) decided(dl *delivery, w *registry.Webhook, state fanfare.State, reason fanfare.Reason) store.Outcome {
	a := d.newAttempt(dl, w)
	a.State, a.Reason = state, reason
	d.metrics.ended(state)
	if state == fanfare.Discarded {
		d.queue.forget(dl.webhook)
	}
	d.log.Debug("delivery ended", "event", a.EventID, "webhook", a.WebhookID, "state", state, "reason", reason)
	return store.Outcome{Attempt: a, Owner: dl.owner, Group: dl.groupID(), Due: dl.due, Told: dl.told(state)}
}

// told is the type of the event if the delivery is given up with state and its account is told so. Of its own
// events Fanfare tells nothing: one that fails must not make another. Nor of one-off destinations: it is webhooks
// that such an event is about.
func (dl *delivery) told(state fanfare.State) string {
	if state != fanfare.Exhausted || dl.event.test || dl.destination > 0 || fanfare.Operational(dl.event.typ) {
		return ""
	}
	return dl.event.typ
}

// parked puts a delivery off without a try: due at once, to be claimed when there is room.
func (d *Dispatcher) parked(dl *delivery) store.Outcome {
	return store.Outcome{Owner: dl.owner, Group: dl.groupID(), Due: dl.due, Retry: &store.Retry{
		WebhookID: dl.webhook, EventID: dl.event.id, AccountID: dl.account, Trigger: dl.trigger, Number: dl.number,
		Tries: dl.tries, FirstAt: dl.firstAt, DueAt: d.node.now(), Takeovers: dl.takeovers, Destination: dl.destination,
	}}
}

func (d *Dispatcher) newAttempt(dl *delivery, w *registry.Webhook) *fanfare.Attempt {
	a := &fanfare.Attempt{
		EventID: dl.event.id, WebhookID: dl.webhook, AccountID: dl.account,
		Trigger: dl.trigger, StartedAt: d.node.now(), Node: dl.owner, Destination: dl.destination,
	}
	a.ID = attemptID(a.StartedAt)
	if w != nil {
		a.WebhookVersion = w.Version
	}
	return a
}

var attempts atomic.Uint64

// attemptID makes time-ordered ids, and in the order of their making within a millisecond.
func attemptID(at time.Time) uuid.UUID {
	n := attempts.Add(1)
	return fanfare.EventID(fanfare.PositionAt(at)|fanfare.Position(n&0xffff), rand.Uint64()) //nolint:gosec // unique, not secret
}

func (d *Dispatcher) logAttempt(a *fanfare.Attempt) {
	level := slog.LevelDebug
	msg := "attempt"
	if a.State == fanfare.Exhausted {
		level, msg = slog.LevelInfo, "delivery exhausted"
	}
	if !d.log.Enabled(context.Background(), level) {
		return
	}
	d.log.Log(context.Background(), level, msg, "event", a.EventID, "webhook", a.WebhookID, "attempt", a.Number, "verdict", a.Verdict,
		"status", a.Status, "error", a.Error, "state", a.State, "reason", a.Reason, "ms", a.Duration.Milliseconds())
}

func (dl *delivery) groupID() uuid.UUID {
	if dl.group == nil {
		return uuid.Nil
	}
	return dl.group.id
}
