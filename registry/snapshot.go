package registry

import (
	"slices"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/retry"
)

// Snapshot is the registry at one version. It never changes and may be kept and read by anybody.
type Snapshot struct {
	version    int64
	accounts   shards[uuid.UUID, *account] // all but the platform's
	webhooks   shards[uuid.UUID, *Webhook]
	keys       shards[[32]byte, *fanfare.Key]
	keysOf     shards[uuid.UUID, [][32]byte] // by owner; nil: the platform
	types      map[string]*EventType
	schemed    int // accounts that say how their webhooks are signed
	unreadable int // webhooks a secret of which does not open
	unchecked  int // event types the schema of which cannot be read
}

// account is one node of the tree. It never changes.
type account struct {
	parent    uuid.UUID // nil: the platform
	own       index
	inherited index                 // those of own that want the events of descendants too
	selection *selection            // the webhooks that look into events, which own and inherited leave out; nil: none
	signing   *secrets              // its own; nil: it never needed one
	schemes   *schemes              // how its webhooks are signed; nil: as above it
	health    *retry.HealthOverride // what it changes about the health policy from above; nil: nothing
}

// Version is that of the newest change in it.
func (s *Snapshot) Version() int64 { return s.version }

// Match appends to dst the webhooks that want an event of that type and with that data in that account,
// each once: the account's own, and those of its ancestors that include sub-accounts. Disabled ones are
// among them, since what they miss is recorded. The type must be the name of one, and the data JSON that
// was checked.
func (s *Snapshot) Match(dst []*Webhook, account uuid.UUID, eventType string, data []byte) []*Webhook {
	own, ok := s.accounts.get(account)
	if !ok {
		return dst
	}
	dst = own.own.match(dst, eventType)
	looking := own.selection != nil
	for a, ok := s.accounts.get(own.parent); ok; a, ok = s.accounts.get(a.parent) {
		dst = a.inherited.match(dst, eventType)
		looking = looking || a.selection != nil
	}
	if looking {
		dst = s.look(dst, account, own, eventType, data)
	}
	return dst
}

// look appends those that look into the event.
func (s *Snapshot) look(dst []*Webhook, id uuid.UUID, own *account, eventType string, data []byte) []*Webhook {
	l := newLook(id, eventType, s.types[eventType], data)
	defer l.close()
	if own.selection != nil {
		dst = own.selection.match(dst, &own.selection.own, l)
	}
	for a, ok := s.accounts.get(own.parent); ok; a, ok = s.accounts.get(a.parent) {
		if a.selection != nil {
			dst = a.selection.match(dst, &a.selection.inherited, l)
		}
	}
	return dst
}

// Lineage lists an account, its parent and so on to the root, and last the platform's account: all
// whose changes may change what the account's events match. It is nil for an account that is unknown
// or deleted.
func (s *Snapshot) Lineage(account uuid.UUID) []uuid.UUID {
	a, ok := s.accounts.get(account)
	if !ok {
		return nil
	}
	line := append(make([]uuid.UUID, 0, 4), account)
	for ok {
		line = append(line, a.parent)
		a, ok = s.accounts.get(a.parent)
	}
	return line
}

// HealthPolicy is the policy that an account's webhooks have unless they say otherwise.
func (s *Snapshot) HealthPolicy(id uuid.UUID) retry.HealthPolicy {
	var changes []*retry.HealthOverride // the account's own first
	for a, ok := s.accounts.get(id); ok; a, ok = s.accounts.get(a.parent) {
		if a.health != nil {
			changes = append(changes, a.health)
		}
	}
	p := retry.DefaultHealth
	for _, o := range slices.Backward(changes) {
		p = p.Override(*o)
	}
	return p
}

// Within says whether an account exists and is root or below it. Every account is below the platform's.
func (s *Snapshot) Within(root, account uuid.UUID) bool {
	a, ok := s.accounts.get(account)
	known := ok
	for ok && account != root {
		account = a.parent
		a, ok = s.accounts.get(account)
	}
	return known && account == root
}

// Account says whether an account exists. The platform's does not count.
func (s *Snapshot) Account(id uuid.UUID) (known bool) {
	_, known = s.accounts.get(id)
	return known
}

// Webhook is the webhook with that id, nil if it is unknown or deleted.
func (s *Snapshot) Webhook(id uuid.UUID) *Webhook {
	w, _ := s.webhooks.get(id)
	return w
}

// EventType is the entry of the catalog with that name, nil if there is none.
func (s *Snapshot) EventType(name string) *EventType { return s.types[name] }

// Key is the key whose text has that SHA-256, nil if it is unknown or deleted. It is not to be written
// to.
func (s *Snapshot) Key(hash [32]byte) *fanfare.Key {
	k, _ := s.keys.get(hash)
	return k
}
