package receivers

import (
	"os/exec"
	"testing"
)

// Python gives a Python that has Flask: the first on the PATH, or else that of the system, for which
// distributions package it. Without one the test fails.
func Python(t testing.TB) string {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import flask").Run() == nil {
			return python
		}
	}
	t.Fatal("receivers: this test needs Python 3.9 or newer with Flask (Debian, Ubuntu: apt-get install python3-flask)")
	return ""
}
