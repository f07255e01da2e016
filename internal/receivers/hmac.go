package receivers

import "testing"

// Over is what a receiver from before there were standards computes an HMAC over.
type Over string

// What there is.
const (
	Raw       Over = "raw"       // the body as it came
	Stringify Over = "stringify" // JSON.stringify of the body as Express has parsed it
)

// StartExpress starts an Express application that wants hex(HMAC-SHA256(secret, …)) in a header. Without
// Node.js the test fails.
func StartExpress(t testing.TB, secret, header string, over Over) *Receiver {
	t.Helper()
	return start(t, Packages(t, folder("node")), secret, "node", "hmac.mjs", header, string(over))
}

// StartFlask starts a Flask application that wants hex(HMAC-SHA256(secret, raw body)) in a header. Without
// Flask the test fails.
func StartFlask(t testing.TB, secret, header string) *Receiver {
	t.Helper()
	dir, err := Folder(folder("python"))
	if err != nil {
		t.Fatalf("receivers: %v", err)
	}
	return start(t, dir, secret, Python(t), "hmac_receiver.py", header)
}
