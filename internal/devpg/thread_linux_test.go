package devpg

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// Linux ties a child to the thread that forked it, and the threads of a Go program come and go. Only the
// end of the program may end a child.
func TestAChildOutlivesTheThreadThatAskedForIt(t *testing.T) {
	const many = 4 // one of them may get the program's first thread, which never ends
	var children [many]*process
	var stdins [many]io.WriteCloser
	var tids [many]int
	var all, locked sync.WaitGroup
	locked.Add(many)
	for i := range many {
		all.Go(func() {
			runtime.LockOSThread() // for good: the thread ends with this goroutine
			tids[i] = syscall.Gettid()
			locked.Done()
			locked.Wait()
			cmd := runAs{}.command(nil, "/bin/sh", "-c", "read -r line")
			var err error
			if stdins[i], err = cmd.StdinPipe(); err != nil {
				t.Error(err)
				return
			}
			if children[i], err = spawn(cmd); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, tid := range tids {
		if tid == os.Getpid() {
			continue
		}
		eventually(t, "the thread ends", func() bool {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
			return err != nil
		})
	}

	for i, p := range children {
		_, _ = io.WriteString(stdins[i], "end well\n") // fails if the child has ended
		<-p.done
		stdins[i].Close()
		if p.err != nil {
			t.Errorf("a child ended with a thread: %v", p.err)
		}
	}
}
