package registry

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestATurnServesAllWhoAskedBeforeItBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns, release, began := newTurns(), make(chan struct{}), 0
		work := func(context.Context) error { began++; <-release; return nil }
		go func() { _ = turns.next(t.Context(), work) }()
		synctest.Wait() // the first turn runs: those who come now may not be served by it
		var served atomic.Int64
		for range 5 {
			go func() {
				if turns.next(t.Context(), work) == nil {
					served.Add(1)
				}
			}()
			synctest.Wait()
		}

		release <- struct{}{}
		synctest.Wait()
		if began != 2 || served.Load() != 0 {
			t.Errorf("after the first turn %d had begun and %d were served", began, served.Load())
		}
		release <- struct{}{}
		synctest.Wait()
		if began != 2 || served.Load() != 5 {
			t.Errorf("after the second turn %d had begun and %d were served", began, served.Load())
		}
	})
}

func TestAFailedTurnIsSharedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns, release, failure := newTurns(), make(chan struct{}), errors.New("away")
		began := 0
		work := func(context.Context) error { began++; <-release; return failure }
		errs := make(chan error, 3)
		for range cap(errs) {
			go func() { errs <- turns.next(t.Context(), work) }()
			synctest.Wait()
		}
		release <- struct{}{}
		release <- struct{}{}
		for range cap(errs) {
			if err := <-errs; err != failure {
				t.Errorf("a caller got %v", err)
			}
		}
		if began != 2 {
			t.Errorf("%d turns began", began)
		}
	})
}

func TestACallerWhoGoesAwayTakesNobodyAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		ctx, cancel := context.WithCancel(t.Context())
		impatient := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		blocked, release := make(chan struct{}), make(chan struct{})
		go func() { _ = turns.next(t.Context(), func(context.Context) error { <-release; return nil }) }()
		synctest.Wait()
		errs, other := make(chan error, 1), make(chan error, 1)
		go func() { errs <- turns.next(ctx, impatient) }()
		synctest.Wait()
		go func() { other <- turns.next(t.Context(), func(context.Context) error { close(blocked); return nil }) }()
		synctest.Wait()
		close(release)
		synctest.Wait() // the impatient one has the turn

		cancel()

		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller who went away got %v", err)
		}
		if err := <-other; err != nil {
			t.Errorf("the caller who stayed got %v", err)
		}
		<-blocked // by work of its own
	})
}
