package registry

import (
	"context"
	"sync/atomic"
)

// turns runs one piece of work at a time, for everybody who asked before it began.
type turns struct {
	begun atomic.Int64  // turns are numbered as they begin
	token chan struct{} // holds one; whoever put it there has the turn and may use what follows
	ended int64         // the newest turn that did not end because its caller went away
	err   error         // what it answered
}

func newTurns() *turns { return &turns{token: make(chan struct{}, 1)} }

// next returns what a turn answered that began after this call: somebody else's or its own.
func (t *turns) next(ctx context.Context, work func(context.Context) error) error {
	enough := t.begun.Load() + 1
	if err := t.take(ctx); err != nil {
		return err
	}
	defer t.give()
	if t.ended >= enough {
		return t.err
	}
	return t.run(ctx, work)
}

// own takes a turn in any case.
func (t *turns) own(ctx context.Context, work func(context.Context) error) error {
	if err := t.take(ctx); err != nil {
		return err
	}
	defer t.give()
	return t.run(ctx, work)
}

func (t *turns) run(ctx context.Context, work func(context.Context) error) error {
	n := t.begun.Add(1)
	err := work(ctx)
	if err == nil || ctx.Err() == nil {
		t.ended, t.err = n, err
	}
	return err
}

func (t *turns) take(ctx context.Context) error {
	select {
	case t.token <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turns) give() { <-t.token }
