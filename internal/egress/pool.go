package egress

import (
	"sync"
	"time"
)

// pool keeps idle connections: so many in all, so many of one origin, each for so long.
type pool struct {
	max, maxOrigin int
	timeout        time.Duration

	mu             sync.Mutex       // guards what follows, and the links of idle connections
	tops           map[string]*conn // by origin: the one used last, with the others below
	oldest, newest *conn
	count          int
	sweeper        *time.Timer // one for all; armed while there are any
}

func newPool(limit, limitOrigin int, timeout time.Duration) *pool {
	return &pool{max: limit, maxOrigin: limitOrigin, timeout: timeout, tops: make(map[string]*conn)}
}

// take gives the connection to an origin that was used last, or nil.
func (p *pool) take(origin string) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.tops[origin]
	if c != nil {
		p.remove(c)
	}
	return c
}

// put keeps a connection, or closes it if its origin has enough. Where all have enough, the one that has
// been idle longest goes.
func (p *pool) put(c *conn) {
	if surplus := p.keep(c); surplus != nil {
		surplus.close()
	}
}

func (p *pool) keep(c *conn) (surplus *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if top := p.tops[c.origin]; top != nil && top.height+1 >= p.maxOrigin {
		return c
	}
	if p.count >= p.max {
		surplus = p.oldest
		p.remove(surplus)
	}
	c.idleSince, c.height = time.Now(), 0
	if c.below = p.tops[c.origin]; c.below != nil {
		c.height = c.below.height + 1
	}
	p.tops[c.origin] = c
	c.older = p.newest
	if p.newest != nil {
		p.newest.newer = c
	} else {
		p.oldest = c
	}
	p.newest = c
	p.count++
	if p.count == 1 {
		p.arm(p.timeout)
	}
	return surplus
}

// remove takes a connection out: the newest of its origin, or the oldest of all, which is the lowest of
// its origin.
func (p *pool) remove(c *conn) {
	if top := p.tops[c.origin]; top == c {
		if c.below == nil {
			delete(p.tops, c.origin)
		} else {
			p.tops[c.origin] = c.below
		}
	} else {
		for top.height--; top.below != c; top.height-- {
			top = top.below
		}
		top.below = nil
	}
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		p.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		p.newest = c.older
	}
	c.below, c.older, c.newer = nil, nil, nil
	p.count--
}

// drop closes the idle connections to an origin.
func (p *pool) drop(origin string) {
	for c := p.take(origin); c != nil; c = p.take(origin) {
		c.close()
	}
}

// closeAll closes every idle connection.
func (p *pool) closeAll() { p.closeOlder(time.Duration(-1)) }

func (p *pool) sweep() { p.closeOlder(p.timeout) }

// closeOlder closes the connections that have been idle for longer than age, and rests until the next
// one has.
func (p *pool) closeOlder(age time.Duration) {
	p.mu.Lock()
	var out *conn // a list by older
	now := time.Now()
	for p.oldest != nil && now.Sub(p.oldest.idleSince) > age {
		c := p.oldest
		p.remove(c)
		c.older, out = out, c
	}
	switch {
	case p.oldest != nil:
		p.arm(p.timeout - now.Sub(p.oldest.idleSince) + time.Millisecond)
	case p.sweeper != nil:
		p.sweeper.Stop()
	}
	p.mu.Unlock()
	for ; out != nil; out = out.older {
		out.close()
	}
}

func (p *pool) arm(after time.Duration) {
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(after, p.sweep)
		return
	}
	p.sweeper.Reset(after)
}
