package registry

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/fanfare-webhooks/fanfare"
)

// index finds the webhooks of one account by event type. It never changes and is sorted by key and
// webhook. A plain name is its own key, "prefix.*" has the key "prefix.", and "*" has "". The types of
// operational events have keys of their own, since "*" does not choose them; see [operationalKey].
//
// One slice of pairs instead of a map: most accounts have a handful of webhooks, and there may be many
// accounts.
type index []entry

type entry struct {
	key     string
	webhook *Webhook
}

func (a entry) compare(b entry) int {
	return cmp.Or(strings.Compare(a.key, b.key), bytes.Compare(a.webhook.ID[:], b.webhook.ID[:]))
}

// match appends the webhooks that want an event type. Each comes once, because the keys of one webhook
// never overlap; see [patternKeys].
func (ix index) match(dst []*Webhook, eventType string) []*Webhook {
	if len(ix) == 0 {
		return dst
	}
	if fanfare.Operational(eventType) {
		return ix.find(dst, operationalKey(eventType))
	}
	dst = ix.find(dst, "")
	for i := range len(eventType) {
		if eventType[i] == '.' {
			dst = ix.find(dst, eventType[:i+1])
		}
	}
	return ix.find(dst, eventType)
}

func (ix index) find(dst []*Webhook, key string) []*Webhook {
	i, _ := slices.BinarySearchFunc(ix, key, func(e entry, key string) int { return strings.Compare(e.key, key) })
	for ; i < len(ix) && ix[i].key == key; i++ {
		dst = append(dst, ix[i].webhook)
	}
	return dst
}

// replace is the index without the webhooks that gone names and with added, which it sorts.
func (ix index) replace(gone func(*Webhook) bool, added index) index {
	slices.SortFunc(added, entry.compare)
	kept := 0
	for _, e := range ix {
		if !gone(e.webhook) {
			kept++
		}
	}
	if kept+len(added) == 0 {
		return nil
	}
	next := make(index, 0, kept+len(added))
	for _, e := range ix {
		if gone(e.webhook) {
			continue
		}
		for len(added) > 0 && added[0].compare(e) < 0 {
			next, added = append(next, added[0]), added[1:]
		}
		next = append(next, e)
	}
	return append(next, added...)
}

// operational are the types that are asked about for each webhook.
var operational = fanfare.OperationalTypes()

// operationalKey is the key of all patterns that choose a type of operational events. No name begins with an
// exclamation mark.
func operationalKey(eventType string) string { return "!" + eventType }

// patternKeys are the keys of a webhook's patterns, without those that another one covers: so an event type
// has at most one of them.
func patternKeys(patterns []string) []string {
	keys := make([]string, 0, len(patterns))
	for _, p := range patterns {
		if !fanfare.Operational(p) {
			keys = append(keys, strings.TrimSuffix(p, "*"))
		}
	}
	slices.Sort(keys)
	kept := keys[:0]
	for _, key := range keys { // what a key covers follows it
		if n := len(kept); n == 0 || !covers(kept[n-1], key) {
			kept = append(kept, key)
		}
	}
	for _, name := range operational {
		if chosen(patterns, name) {
			kept = append(kept, operationalKey(name))
		}
	}
	return kept
}

func covers(key, other string) bool {
	wildcard := key == "" || strings.HasSuffix(key, ".")
	return key == other || wildcard && strings.HasPrefix(other, key)
}

// Chooses says whether a pattern chooses an event type: it is its name, or a prefix of it. "*" chooses all but
// the types of operational events.
func Chooses(pattern, eventType string) bool {
	key := strings.TrimSuffix(pattern, "*")
	return covers(key, eventType) && (key != "" || !fanfare.Operational(eventType))
}

// chosen says whether one of the patterns chooses an event type.
func chosen(patterns []string, eventType string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return Chooses(p, eventType) })
}
