package receivers

import (
	"path/filepath"
	"testing"
)

// The npm packages that [StartNode] may verify with.
const (
	StandardWebhooks = "standardwebhooks"
	Svix             = "svix"
)

// StartNode starts a Node.js process that verifies against a secret (whsec_…) with an npm package. Without
// Node.js the test fails.
func StartNode(t testing.TB, library, secret string) *Receiver {
	t.Helper()
	return start(t, Packages(t, folder("node")), secret, "node", "receiver.mjs", library)
}

func folder(name string) string { return filepath.Join("internal", "receivers", name) }
