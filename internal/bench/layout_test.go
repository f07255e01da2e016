package bench

import (
	"fmt"
	"testing"
)

func TestEachEventGoesToItsShareAndEachWebhookGetsOne(t *testing.T) {
	for _, c := range []Config{
		{Webhooks: 1, EventType: "a.b"},
		{Webhooks: 10, EventType: "a.b"},
		{Webhooks: 1, Accounts: 3, WebhooksTotal: 12},
		{Webhooks: 2, Accounts: 3, WebhooksTotal: 12},
		{Webhooks: 4, Accounts: 3, WebhooksTotal: 12},
		{Webhooks: 1, Accounts: 2, WebhooksTotal: 8},
	} {
		t.Run(fmt.Sprintf("%d of %d in %d", c.Webhooks, c.WebhooksTotal, c.Accounts), func(t *testing.T) {
			l := newLayout(&c)
			if c.Accounts > 0 && l.webhooks() != c.WebhooksTotal {
				t.Fatalf("%d webhooks", l.webhooks())
			}
			got := make(map[int]int)
			for seq := range l.webhooks() / c.Webhooks {
				places := make(map[int]bool)
				for w := range l.webhooks() {
					if place, ok := l.wants(w, seq); ok {
						places[place] = true
						got[w]++
						account, group, _ := l.of(w)
						if a, g := l.to(seq); a != account || g != group || group >= len(l.types) {
							t.Errorf("event %d goes to account %d, group %d; webhook %d is in %d, %d", seq, a, g, w, account, group)
						}
					}
				}
				if len(places) != c.Webhooks {
					t.Errorf("event %d goes to %d places", seq, len(places))
				}
			}
			for w := range l.webhooks() {
				if got[w] != 1 {
					t.Errorf("webhook %d got %d events", w, got[w])
				}
			}
		})
	}
}

func TestLayoutsOfTheSameWebhooksShareNoEventType(t *testing.T) {
	seen := make(map[string]bool)
	for _, fanOut := range []int{1, 2, 4} {
		for _, name := range newLayout(&Config{Webhooks: fanOut, Accounts: 3, WebhooksTotal: 12}).types {
			if seen[name] {
				t.Errorf("%s stands for two groups", name)
			}
			seen[name] = true
		}
	}
}
