package bench

import (
	"os"
	"testing"
)

func TestParseStat(t *testing.T) {
	const rest = " S 12 1 1 0 -1 4194560 900 800 0 0 100 50 30 20 20 0 1 0 300 1000 10 0"
	for _, name := range []string{"postgres", "a) S 99 (b", ""} {
		pid, s, ok := parseStat([]byte("4711 (" + name + ")" + rest))
		if want := (stat{parent: 12, name: name, cpu: 2}); !ok || pid != 4711 || s != want {
			t.Errorf("%q: got %d, %+v, %v", name, pid, s, ok)
		}
	}
	for _, text := range []string{"", "4711", "4711 (a", "x (a)" + rest, "4711 (a) S 12", "4711 (a) S x" + rest} {
		if _, _, ok := parseStat([]byte(text)); ok {
			t.Errorf("%q is read", text)
		}
	}
}

func TestOnlyAChildCounts(t *testing.T) {
	all := map[int]stat{10: {parent: 1}, 11: {parent: 10}, 12: {parent: 11}, 20: {parent: 1}, 30: {parent: 31}, 31: {parent: 30}}
	for pid, want := range map[int]bool{10: true, 11: true, 12: true, 20: false, 30: false} {
		if descends(all, pid, 10) != want {
			t.Errorf("%d: want %v", pid, want)
		}
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	u, ok := readUsage(os.Getpid())
	if !ok || u.peak < 1<<20 {
		t.Errorf("got %+v, %v", u, ok)
	}
	if _, ok := readUsage(0); ok {
		t.Error("there is a process 0")
	}
}

func TestClock(t *testing.T) {
	c, ok := parseClock("cpu  10 1 20 60 2 0 3 4 5 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	if want := (clock{all: 100, stolen: 4}); !ok || c != want {
		t.Errorf("%+v %t, want %+v", c, ok, want)
	}
	for _, text := range []string{"", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7 8 9 10", "cpu a b c d e f g h"} {
		if _, ok := parseClock(text); ok {
			t.Errorf("%q was read", text)
		}
	}
}
