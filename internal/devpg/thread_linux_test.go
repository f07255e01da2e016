package devpg

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Linux ties a child to the thread that forked it, and the threads of a Go program come and go. Only the
// end of the program may end Postgres.
func TestAServerOutlivesTheThreadsOfItsParent(t *testing.T) {
	dir := home(t)
	s := start(t, Options{Dir: dir, Fast: true})

	endIdleThreads(t)

	if got := ask(t, s.URL("postgres"), `SELECT 'yes'`); got != "yes" {
		t.Errorf("answer = %q", got)
	}
	if got := logOf(t, dir); strings.Contains(got, "shutdown request") {
		t.Errorf("Postgres was asked to end:\n%s", got)
	}
}

// endIdleThreads ends every thread that no goroutine holds: many goroutines hold one each at the same
// time, idle ones first, and a thread ends with the goroutine that is locked to it.
func endIdleThreads(t *testing.T) {
	const many = 64
	var all, locked sync.WaitGroup
	tids := make([]int, many)
	locked.Add(many)
	for i := range many {
		all.Go(func() {
			runtime.LockOSThread()
			tids[i] = syscall.Gettid()
			locked.Done()
			locked.Wait()
		})
	}
	all.Wait()
	for _, tid := range tids {
		if tid == os.Getpid() {
			continue // the main thread never ends
		}
		eventually(t, "the thread ends", func() bool {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
			return err != nil
		})
	}
}
