package registry

import (
	"context"

	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// Source is what a registry is read from: a [store.Store].
type Source interface {
	// RegistryHead answers the present state. What was committed before the call is part of it.
	RegistryHead(ctx context.Context) (store.RegistryMark, error)
	// LoadRegistry reads everything, in the one state that it answers. After an error sink is of no use.
	LoadRegistry(ctx context.Context, sink store.RegistrySink) (store.RegistryMark, error)
	// RegistryChanges reads what changed since a state, and answers the state that it leads to. It is not ok
	// if that cannot be told; then sink got nothing. After an error sink is of no use.
	RegistryChanges(ctx context.Context, since store.RegistryMark, sink store.RegistrySink) (m store.RegistryMark, ok bool, err error)
	// Listen calls onNotify once when it listens to a channel, and then for each notification, until ctx ends
	// or the connection is lost. Notifications may be lost too.
	Listen(ctx context.Context, channel string, onNotify func()) error
}
