// Package disabler looks after endpoints that fail: it warns, and it disables.
//
// It hides which webhooks have to be looked at and when, that one node at a time does it, and what is
// written down for a decision. What the rules are is package retry's.
package disabler

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
)

const (
	every = 10 * time.Second // a round, and how often nodes write health down
	// term is for how long nobody else looks after the one that does has fallen silent.
	term = time.Minute
	// lot is how many webhooks are looked at in a round: some 100,000 rows of health. When more fail, each is looked at
	// less often.
	lot = 1000
	// again is how long a webhook is left alone after it was looked at.
	again = 30 * time.Second
	// warnedAgain is likewise, for one whose owner was warned and that no burst can disable: what is left to find is
	// the end of its day.
	warnedAgain = 5 * time.Minute
	// deadline bounds a round: the next one begins where it ended.
	deadline = 20 * time.Second
)

// Policies knows what accounts have decided: the registry.
type Policies interface {
	// HealthPolicy is the policy that an account's webhooks have unless they say otherwise.
	HealthPolicy(account uuid.UUID) retry.HealthPolicy
}

// Options of a disabler. The zero value is fine.
type Options struct {
	Every    time.Duration // between two rounds; 0: 10 s
	Disabled func(n int)   // is told how many webhooks a round has disabled; nil: nobody is
	Log      *slog.Logger
}

// Disabler judges the webhooks that fail.
type Disabler struct {
	store    *store.Store
	policies func() Policies
	id       uuid.UUID // what the lease is held under
	options  Options
	log      *slog.Logger
	failing  bool // the last round did not succeed
}

// New makes a disabler, which [Disabler.Run] runs. policies answers what is known now.
func New(s *store.Store, policies func() Policies, o Options) *Disabler {
	if o.Every == 0 {
		o.Every = every
	}
	d := &Disabler{store: s, policies: policies, id: uuid.New(), options: o, log: o.Log}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d
}

// Run judges until ctx ends. It survives that Postgres is away.
func (d *Disabler) Run(ctx context.Context) error {
	t := time.NewTicker(d.options.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		err := d.Round(ctx)
		switch {
		case err != nil && !d.failing && ctx.Err() == nil:
			d.log.Warn("webhooks that fail are not looked at for now", "error", err)
		case err == nil && d.failing:
			d.log.Info("webhooks that fail are looked at again")
		}
		d.failing = err != nil && ctx.Err() == nil
	}
}

// Round looks at the webhooks whose turn it is, unless another process is the one that does.
func (d *Disabler) Round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	failing, now, err := d.store.TakeFailing(ctx, d.id, term, lot)
	if err != nil || len(failing) == 0 {
		return err
	}
	policies := d.policies()
	looked := make([]store.Looked, len(failing))
	judged := make([]retry.HealthJudgement, len(failing))
	var wanted []uuid.UUID // whose attempts are evidence
	for i := range failing {
		f := &failing[i]
		looked[i] = store.Looked{WebhookID: f.WebhookID, AccountID: f.AccountID, Forget: f.Gone, Again: again}
		if f.Gone {
			continue
		}
		judged[i] = judge(override(policies.HealthPolicy(f.AccountID), f), now, f, &looked[i])
		if judged[i].Verdict == retry.HealthWarn && slices.Contains(failing[i].Mailed, store.MailWarning) {
			judged[i].Verdict = retry.HealthFine // it was said
		}
		if judged[i].Verdict != retry.HealthFine {
			wanted = append(wanted, f.WebhookID)
		}
	}
	var samples map[uuid.UUID][]store.Sample
	if len(wanted) > 0 {
		if samples, err = d.store.Samples(ctx, wanted, now.Add(-store.HealthKept)); err != nil {
			return err
		}
	}
	for i := range looked {
		decide(&looked[i], &failing[i], judged[i], samples[failing[i].WebhookID], now)
	}
	disabled, err := d.store.Settle(ctx, looked)
	if err != nil {
		return err
	}
	for i := range disabled {
		w := &disabled[i]
		d.log.Info("webhook disabled: it fails", "webhook", w.ID, "account", w.AccountID, "evidence", w.Disabled.Evidence)
	}
	if d.options.Disabled != nil && len(disabled) > 0 {
		d.options.Disabled(len(disabled))
	}
	return nil
}

// Judge is what a policy makes of a webhook's day, which was read whole. The webhook's own policy changes it.
func Judge(p retry.HealthPolicy, now time.Time, f *store.Failing) retry.HealthJudgement {
	return override(p, f).Judge(now, history(f))
}

// override is a policy with what a webhook changes about it. One that this version cannot read changes nothing.
func override(p retry.HealthPolicy, f *store.Failing) retry.HealthPolicy {
	if o, err := retry.ParseHealthOverride(f.Policy); err == nil {
		return p.Override(o)
	}
	return p
}

func history(f *store.Failing) retry.HealthHistory {
	h := retry.HealthHistory{From: f.From, Since: f.Since, Begin: f.Begin, Minutes: make([]retry.HealthMinute, len(f.Minutes))}
	for i, m := range f.Minutes {
		h.Minutes[i] = retry.HealthMinute{At: m.At, Attempts: int(m.Attempts), Failures: int(m.Failures), Exhausted: int(m.Exhausted)}
	}
	return h
}

// judge decides about a webhook, and notes when it is to be looked at again. Who was not read whole is not
// disabled for what takes a day to know.
func judge(p retry.HealthPolicy, now time.Time, f *store.Failing, l *store.Looked) retry.HealthJudgement {
	for _, m := range f.Minutes {
		if m.Failures > 0 {
			l.FailedAt = m.At
		}
	}
	h := history(f)
	j := p.Judge(now, h)
	l.Since, l.DayAt = j.Since, f.DayAt
	if f.Whole {
		l.DayAt = dayAt(p, now, j)
	} else if j.Verdict == retry.HealthDisable && j.Rule != retry.RuleBurst {
		whole := p
		whole.Disable = false
		j = whole.Judge(now, h)
	}
	if p.Burst == 0 && slices.Contains(f.Mailed, store.MailWarning) {
		l.Again = min(warnedAgain, max(again, l.DayAt.Sub(now)))
	}
	failed := f.FailedAt
	if l.FailedAt.After(failed) {
		failed = l.FailedAt
	}
	l.Forget = now.Sub(failed) > store.HealthKept
	return j
}

// dayEvery is how often a day is looked at even if nothing can have come of it: policies change.
const dayEvery = time.Hour

// dayAt is when something new may come of a webhook's day. What was given up in a row may rise at any time.
func dayAt(p retry.HealthPolicy, now time.Time, j retry.HealthJudgement) time.Time {
	at := now.Add(again)
	if p.Exhausted == 0 && (j.Since.IsZero() || j.NotBefore.After(at)) {
		if at = now.Add(dayEvery); !j.Since.IsZero() && j.NotBefore.Before(at) {
			at = j.NotBefore
		}
	}
	return at
}

// decide turns a judgement into what is written down.
func decide(l *store.Looked, f *store.Failing, j retry.HealthJudgement, samples []store.Sample, now time.Time) {
	if l.Forget {
		return
	}
	if body := givenUp(f); body != nil && !slices.Contains(f.Mailed, store.MailExhausted) {
		l.Mails = append(l.Mails, store.OwedMail{Kind: store.MailExhausted, Body: body})
	}
	if j.Verdict == retry.HealthFine {
		return
	}
	e := retry.NewEvidence(j)
	for _, s := range samples {
		e.Samples = append(e.Samples, retry.NewSample(s.EventID.String(), s.AttemptID.String(), s.StartedAt, s.Status, s.Error, s.ResponseBody))
	}
	evidence := e.JSON()
	body := store.MailBody{WebhookID: l.WebhookID, At: now, Evidence: evidence}
	if j.Verdict == retry.HealthWarn {
		l.Mails = append(l.Mails, store.OwedMail{Kind: store.MailWarning, Body: body.JSON()})
		return
	}
	body.By = fanfare.DisabledByHealth
	l.Disable = &store.Verdict{Version: f.Version, Reason: reason(j), Evidence: evidence, Mail: body.JSON()}
}

// givenUp is a mail about deliveries that were given up, if there are any.
func givenUp(f *store.Failing) []byte {
	body := store.MailBody{WebhookID: f.WebhookID}
	for _, m := range f.Minutes {
		if m.Exhausted > 0 && !m.At.Before(f.From) {
			if body.Count == 0 {
				body.Since = m.At
			}
			body.Count += int(m.Exhausted)
			body.At = m.At
		}
	}
	if body.Count == 0 {
		return nil
	}
	return body.JSON()
}

// reason says in a line what a webhook was disabled for.
func reason(j retry.HealthJudgement) string {
	switch j.Rule {
	case retry.RuleBurst:
		return fmt.Sprintf("%d attempts failed within %s", j.Count.Failures, retry.FormatDuration(j.Within))
	case retry.RuleExhausted:
		return fmt.Sprintf("%d deliveries were given up in a row", j.Exhausted)
	}
	return fmt.Sprintf("%d of %d attempts failed, for %s without a good hour", j.Count.Failures, j.Count.Attempts, retry.FormatDuration(j.Within))
}
