// Package version knows which build this is. It hides how the Go linker and toolchain tell.
package version

import (
	"runtime"
	"runtime/debug"
)

// Number is the release. The release build sets it with -ldflags "-X …version.Number=1.2.3".
var Number = "0.1.0-dev"

// Info is what `fanfare version` prints.
type Info struct {
	Version string `json:"version"`
	Commit  string `json:"commit"` // "" if the build knows none
	Go      string `json:"go"`
}

// Get reads it.
func Get() Info {
	i := Info{Version: Number, Go: runtime.Version()}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				i.Commit = s.Value
			}
		}
	}
	return i
}
