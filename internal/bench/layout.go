package bench

import "fmt"

// layout says which webhooks get which event. It is a pure function of numbers: nothing is remembered.
//
// Webhooks are numbered through: perAccount of the first account, then those of the next. Within an
// account each fanOut of them form a group, and each group has an event type of its own, so that an event
// goes to exactly fanOut webhooks. Events go round: event i to account i mod accounts, and there from one
// group to the next. After accounts × groups events every webhook has had one.
type layout struct {
	accounts, perAccount, fanOut int
	types                        []string // by group
}

// newLayout is the layout of c. Without accounts of its own every webhook gets every event.
func newLayout(c *Config) layout {
	if c.Accounts == 0 {
		return layout{accounts: 1, perAccount: c.Webhooks, fanOut: c.Webhooks, types: []string{c.EventType}}
	}
	l := layout{accounts: c.Accounts, perAccount: c.WebhooksTotal / c.Accounts, fanOut: c.Webhooks}
	for group := range l.perAccount / l.fanOut {
		l.types = append(l.types, l.typeName(group))
	}
	return l
}

// typeName names the fan-out as well, so that webhooks may stand in the groups of several layouts.
func (l *layout) typeName(group int) string {
	return fmt.Sprintf("fanfare_bench.f%d.g%d", l.fanOut, group)
}

func (l *layout) webhooks() int { return l.accounts * l.perAccount }

// to is where event seq goes.
func (l *layout) to(seq int) (account, group int) {
	return seq % l.accounts, seq / l.accounts % len(l.types)
}

// of is where a webhook stands.
func (l *layout) of(webhook int) (account, group, place int) {
	k := webhook % l.perAccount
	return webhook / l.perAccount, k / l.fanOut, k % l.fanOut
}

// wants reports whether a webhook gets event seq, and as which of its fanOut.
func (l *layout) wants(webhook, seq int) (place int, ok bool) {
	account, group, place := l.of(webhook)
	a, g := l.to(seq)
	return place, account == a && group == g
}
