package dispatcher

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/weaken"
)

const (
	// recoverEvery bounds how long work of dead nodes waits when nobody noticed their death.
	recoverEvery = 10 * time.Second
	// takeGroups is the most groups taken over by one statement.
	takeGroups = 20
	// freeRows is the most retries freed by one statement.
	freeRows = 1000
	// suspectTakeovers is after how many takeovers a group's deliveries are dealt with one by one.
	suspectTakeovers = 2
)

// recoverLoop takes over what dead nodes left, and what this node lost the memory of: groups and claims
// whose end Postgres forgot in a crash of its own, and groups whose commit only seemed to fail.
func (d *Dispatcher) recoverLoop(ctx context.Context) {
	t := time.NewTicker(recoverEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-d.node.orphans:
		}
		d.progressed.tick("recover")
		if !d.node.mayStart() || !d.node.settledIn.Load() {
			continue
		}
		for _, step := range []func(context.Context) error{d.recoverForgotten, d.takeOverGroups, d.freeOrphans} {
			if err := step(ctx); err != nil {
				d.logTrouble(ctx, "recovery is put off", err)
				break
			}
		}
	}
}

// takeOverGroups takes groups of dead nodes in lots that fit the queue.
func (d *Dispatcher) takeOverGroups(ctx context.Context) error {
	for d.queue.space() > 0 && d.node.mayStart() {
		me := d.node.id()
		short, cancel := context.WithTimeout(ctx, engineDeadline)
		groups, err := d.store.TakeGroups(short, me, takeGroups)
		cancel()
		if err != nil || len(groups) == 0 {
			return err
		}
		d.metrics.takeovers.Add(float64(len(groups)))
		d.log.Info("groups taken over from dead nodes", "groups", len(groups))
		if err := d.resume(ctx, me, groups); err != nil {
			return err
		}
	}
	return nil
}

// recoverForgotten takes over from itself.
func (d *Dispatcher) recoverForgotten(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, engineDeadline)
	defer cancel()
	me := d.node.id()
	lost, err := d.freeForgotten(ctx, me)
	if err != nil {
		return err
	}
	for len(lost.Groups) > 0 {
		n := min(len(lost.Groups), takeGroups)
		groups, err := d.store.RetakeGroups(ctx, me, lost.Groups[:n])
		if err != nil {
			return err
		}
		if len(groups) > 0 {
			d.metrics.takeovers.Add(float64(len(groups)))
			d.log.Info("forgotten groups taken up again", "groups", len(groups))
		}
		if err := d.resume(ctx, me, groups); err != nil {
			return err
		}
		lost.Groups = lost.Groups[n:]
	}
	return nil
}

// freeForgotten gives claims that nobody here remembers free again, and answers what else was
// forgotten. No claim is under way meanwhile, which would look like one.
func (d *Dispatcher) freeForgotten(ctx context.Context, me uuid.UUID) (lost store.Mine, err error) {
	d.claiming.Lock()
	defer d.claiming.Unlock()
	mine, err := d.store.Mine(ctx, me)
	if err != nil {
		return lost, err
	}
	// A group that was settled since is named too; then nothing is left to take.
	lost = d.recorder.forgotten(me, mine)
	if len(lost.Retries) == 0 {
		return lost, nil
	}
	if err := d.store.FreeRetries(ctx, me, lost.Retries); err != nil {
		return lost, err
	}
	for _, ref := range lost.Retries {
		d.due.note(ref.WebhookID, d.node.now())
	}
	d.log.Info("forgotten retries freed", "retries", len(lost.Retries))
	return lost, nil
}

// resume queues what groups still owe. What killed its node twice is written to retries pair by pair,
// where a culprit is counted alone.
func (d *Dispatcher) resume(ctx context.Context, me uuid.UUID, groups []store.OpenGroup) error {
	for _, g := range groups {
		d.progressed.tick("recover")
		session, owed, err := d.owed(ctx, g)
		if err != nil {
			return err // the groups are this node's and not in its memory: found again
		}
		grp := d.recorder.open(g.ID, me, session)
		d.recorder.expect(grp, len(owed))
		ds := d.resumed(grp, owed)
		if g.Takeovers <= suspectTakeovers {
			d.enqueue(ds)
			continue
		}
		for _, dl := range ds {
			d.recorder.add(d.parked(dl))
		}
	}
	return nil
}

// owed reads what a group still owes. What it leaves out for an outcome on record a crash of Postgres may yet
// undo, which then ends the session.
func (d *Dispatcher) owed(ctx context.Context, g store.OpenGroup) (store.Session, []store.Owed, error) {
	ctx, cancel := context.WithTimeout(ctx, engineDeadline)
	defer cancel()
	session, err := d.store.RecorderSession(ctx)
	if err != nil {
		return 0, nil, err
	}
	owed, err := d.store.Owed(ctx, g)
	return session, owed, err
}

func (d *Dispatcher) resumed(grp *group, owed []store.Owed) []*delivery {
	now := time.Now()
	shared := make(map[uuid.UUID]*event)
	ds := make([]*delivery, len(owed))
	for i, o := range owed {
		e := shared[o.Event.ID]
		if e == nil {
			e = newEvent(o.Event)
			shared[o.Event.ID] = e
		}
		trigger := fanfare.TriggerFirst
		switch {
		case e.test:
			trigger = fanfare.TriggerTest
		case o.Number > 0:
			trigger = fanfare.TriggerRetry
		}
		ds[i] = &delivery{
			event: e, webhook: o.WebhookID, account: o.AccountID, owner: grp.owner, group: grp, trigger: trigger,
			number: o.Number, tries: o.Number, firstAt: fanfare.EventTime(e.id), queuedAt: now,
			hook: d.registry.Snapshot().Webhook(o.WebhookID), destination: o.Destination,
		}
	}
	return ds
}

// freeOrphans gives retries that dead nodes had in hand free again.
func (d *Dispatcher) freeOrphans(ctx context.Context) error {
	for !weaken.Off(weaken.Orphans) {
		short, cancel := context.WithTimeout(ctx, engineDeadline)
		due, done, err := d.store.FreeOrphans(short, freeRows)
		cancel()
		if err != nil {
			return err
		}
		for webhook, at := range due {
			d.due.note(webhook, at)
		}
		if done {
			break
		}
	}
	return nil
}
