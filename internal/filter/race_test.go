//go:build race

package filter

// raceEnabled: the race detector's pools forget on purpose, which allocates.
const raceEnabled = true
