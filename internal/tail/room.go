package tail

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// room is the bytes that answers may hold from before they are read until they are written. As an account may
// take as many as it leaves free, one whose clients read slowly, or not at all, does not keep the others out.
type room struct {
	most int64

	mu     sync.Mutex // guards what follows
	taken  int64
	held   map[uuid.UUID]int64    // of them, by account
	queues map[uuid.UUID][]*claim // who waits for room, by account, the first first
}

// claim is one who waits for room.
type claim struct {
	bytes   int64
	granted chan struct{} // closed when it has it
}

func newRoom(most int64) *room {
	return &room{most: most, held: make(map[uuid.UUID]int64), queues: make(map[uuid.UUID][]*claim)}
}

// take waits for room, for as long as a read may take. The error is [ErrFull] or ctx's. No one may take more than half.
func (r *room) take(ctx context.Context, account uuid.UUID, bytes int64) error {
	r.mu.Lock()
	if len(r.queues[account]) == 0 && r.fits(account, bytes) {
		r.count(account, bytes)
		r.mu.Unlock()
		return nil
	}
	c := &claim{bytes: bytes, granted: make(chan struct{})}
	r.queues[account] = append(r.queues[account], c)
	r.mu.Unlock()

	timer := time.NewTimer(readTimeout)
	defer timer.Stop()
	err := ErrFull
	select {
	case <-c.granted:
		return nil
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.queues[account], c)
	if i < 0 {
		return nil // it was granted just now
	}
	r.dequeue(account, i)
	r.grant() // it may have stood in another's way
	return err
}

// free gives room back.
func (r *room) free(account uuid.UUID, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(account, -bytes)
	r.grant()
}

// used is how many bytes are taken.
func (r *room) used() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

// grant gives room to those who wait, accounts in no order. The map has it at random, so that none is always the last.
func (r *room) grant() {
	for account := range r.queues {
		for len(r.queues[account]) > 0 && r.fits(account, r.queues[account][0].bytes) {
			c := r.queues[account][0]
			r.count(account, c.bytes)
			close(c.granted)
			r.dequeue(account, 0)
		}
	}
}

func (r *room) fits(account uuid.UUID, bytes int64) bool {
	return r.held[account]+bytes <= r.most-r.taken
}

func (r *room) count(account uuid.UUID, bytes int64) {
	r.taken += bytes
	if r.held[account] += bytes; r.held[account] == 0 {
		delete(r.held, account)
	}
}

func (r *room) dequeue(account uuid.UUID, i int) {
	if r.queues[account] = slices.Delete(r.queues[account], i, i+1); len(r.queues[account]) == 0 {
		delete(r.queues, account)
	}
}
