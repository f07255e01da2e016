package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// site is what a load needs around the node and in it: receivers, webhooks, and accounts and event types
// if they are not those that were there. Several loads may follow each other on one.
type site struct {
	client    *client
	publisher *publisher
	in        *receivers
	keep      bool     // what was made stays
	paths     []string // of the accounts, by their numbers in the layouts

	mu   sync.Mutex
	made [kinds][]string // guarded by mu; paths of what is deleted in the end
}

// plan is what a site consists of.
type plan struct {
	layouts []layout // of the same webhooks, each of which wants its event type in every layout
	own     bool     // the accounts and event types are made for the site
	keep    bool     // what was made stays in the end
	bad     bad
}

func (c *Config) plan() plan {
	return plan{layouts: []layout{newLayout(c)}, own: c.Accounts > 0, keep: c.Keep, bad: newBad(c)}
}

// The kinds of what a site makes, in the order of deleting.
const (
	webhooks = iota
	accounts
	eventTypes
	kinds
)

// build makes a site, which its user ends.
func build(ctx context.Context, t Target, p plan) (*site, error) {
	if p.own {
		if t.PlatformKey == "" {
			return nil, errors.New("accounts of its own: that needs a platform key")
		}
		t.Key = t.PlatformKey
	}
	publisher, err := newPublisher(t)
	if err != nil {
		return nil, err
	}
	in, err := receive(&p)
	if err != nil {
		return nil, err
	}
	s := &site{client: newClient(t), publisher: publisher, in: in, keep: p.keep, paths: make([]string, p.layouts[0].accounts)}
	if err := s.populate(ctx, t, &p); err != nil {
		return nil, errors.Join(err, s.end(ctx))
	}
	return s, nil
}

// populate makes what the plan says.
func (s *site) populate(ctx context.Context, t Target, p *plan) error {
	w := &p.layouts[0]
	s.paths[0] = accountPath(cmp.Or(t.Account, "me"))
	if p.own {
		if err := s.makeAccounts(ctx, p); err != nil {
			return err
		}
	}
	// Those under way at once are of different accounts and types: a node makes changes of one account one
	// after the other.
	err := each(ctx, w.webhooks(), func(ctx context.Context, n int) error {
		account := n % w.accounts
		i := account*w.perAccount + (n/w.accounts+account)%w.perAccount
		var types []string
		for _, l := range p.layouts {
			_, group, _ := l.of(i)
			types = append(types, l.types[group])
		}
		made, err := s.makeWebhook(ctx, p, account, s.in.url(i), types)
		if err != nil {
			return err
		}
		secret, err := signature.ParseSecret(made.Secret)
		if err != nil {
			return fmt.Errorf("a new webhook: %w", err)
		}
		s.in.secrets[i].Store(&secret)
		return nil
	})
	if err != nil {
		return err
	}
	// Those that do not do their part stand in a group each, as far as there are groups.
	return each(ctx, len(s.in.bad.urls), func(ctx context.Context, i int) error {
		account, group := w.to(i)
		_, err := s.makeWebhook(ctx, p, account, s.in.bad.urls[i], []string{w.types[group]})
		return err
	})
}

func (s *site) makeAccounts(ctx context.Context, p *plan) error {
	for _, l := range p.layouts {
		err := each(ctx, len(l.types), func(ctx context.Context, i int) error {
			path, err := s.client.putEventType(ctx, l.types[i])
			return s.undo(eventTypes, path, err)
		})
		if err != nil {
			return err
		}
	}
	return each(ctx, len(s.paths), func(ctx context.Context, i int) (err error) {
		s.paths[i], err = s.client.createAccount(ctx, fmt.Sprintf("fanfare bench %d", i))
		return s.undo(accounts, s.paths[i], err)
	})
}

func (s *site) makeWebhook(ctx context.Context, p *plan, account int, url string, types []string) (webhook, error) {
	path := s.paths[account]
	made, err := s.client.createWebhook(ctx, path, "fanfare bench", url, types)
	if !p.own { // else its account takes it along
		err = s.undo(webhooks, path+"/webhooks/"+made.ID, err)
	}
	if err == nil {
		s.in.accounts[account].Store(&made.Account)
	}
	return made, err
}

// undo notes what to delete in the end, if it was made.
func (s *site) undo(kind int, path string, err error) error {
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.made[kind] = append(s.made[kind], path)
	}
	return err
}

// end closes the site and deletes what was made for it, as far as the node lets it, unless that may stay.
func (s *site) end(ctx context.Context) (err error) {
	err = s.in.close() // what would still be delivered does not count
	if !s.keep {
		for _, paths := range s.made {
			err = errors.Join(err, each(context.WithoutCancel(ctx), len(paths), func(ctx context.Context, i int) error {
				return s.client.do(ctx, http.MethodDelete, paths[i], nil, nil)
			}))
		}
	}
	s.publisher.close()
	s.client.close()
	return err
}
