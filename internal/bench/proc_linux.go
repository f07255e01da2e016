package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticks is USER_HZ, the unit of CPU times in /proc: 100 on every architecture that Go knows.
const ticks = 100

// stat is what /proc/PID/stat says of a process, see proc(5).
type stat struct {
	parent int
	name   string
	cpu    float64 // seconds, with those of children that ended
}

// readUsage reads what pid and its descendants called postgres have used.
func readUsage(pid int) (u usage, ok bool) {
	all := make(map[int]stat)
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the only error is a malformed pattern
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if id, s, ok := parseStat(text); ok {
			all[id] = s
		}
	}
	server, ok := all[pid]
	if !ok {
		return u, false
	}
	u.server = server.cpu
	for id, s := range all {
		if s.name == "postgres" && descends(all, id, pid) {
			u.postgres += s.cpu
			u.hasPostgres = true
		}
	}
	u.peak, ok = readPeak(pid)
	return u, ok
}

func descends(all map[int]stat, id, ancestor int) bool {
	for range all { // a table read while processes come and go may hold a circle
		if id == ancestor {
			return true
		}
		id = all[id].parent
	}
	return false
}

func parseStat(text []byte) (pid int, s stat, ok bool) {
	// The name stands in parentheses and may contain anything, also parentheses.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return 0, s, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:open])))
	fields := strings.Fields(string(text[end+1:])) // from the third on: state, ppid, …
	if err != nil || len(fields) < 15 {
		return 0, s, false
	}
	s.name = string(text[open+1 : end])
	if s.parent, err = strconv.Atoi(fields[1]); err != nil {
		return 0, s, false
	}
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, s, false
		}
		s.cpu += float64(n) / ticks
	}
	return pid, s, true
}

// readPeak is the most memory that pid had resident since it started, or since resetPeak.
func readPeak(pid int) (int64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}

// readClock reads the CPU time of the machine, and how much of it the host gave to others, in ticks; see
// proc(5), /proc/stat.
func readClock() (c clock, ok bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return c, false
	}
	return parseClock(string(text))
}

func parseClock(text string) (c clock, ok bool) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return c, false
	}
	for i, f := range fields[1:9] { // user nice system idle iowait irq softirq steal; guests are in the first two
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return c, false
		}
		c.all += n
		if i == 7 {
			c.stolen = n
		}
	}
	return c, true
}

// resetPeak has the peak of pid's memory begin anew, and reports whether Linux lets it.
func resetPeak(pid int) bool {
	const onlyThePeak = "5" // see proc(5), clear_refs
	return pid != 0 && os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte(onlyThePeak), 0) == nil
}
