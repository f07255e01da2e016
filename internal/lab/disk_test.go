package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fanfare-webhooks/fanfare/internal/devpg"
	"github.com/fanfare-webhooks/fanfare/migrations"
)

// diskFull is the lane of a disk of Postgres that is full for a while (C9): publishes are refused for now,
// nothing that was acknowledged is lost, and work resumes when there is space again.
type diskFull struct {
	wal  bool // only the disk of pg_wal, without which Postgres ends at once
	rate float64
	full time.Duration
	back time.Duration // in which a publish must succeed when there is space again; 0: at some time
}

func (d *diskFull) run(l *lab) {
	disk := l.smallDisk(256)
	home, wal := disk, ""
	if d.wal {
		home, wal = "", disk
	}
	server := l.postgresOn(home, wal)
	l.start(1)
	endpoints := l.endpoints(2)
	owner := l.account("on a small disk")
	topics := []*topic{
		l.topic(owner, "lab.good", wish{}, endpoints[0]),
		l.topic(owner, "lab.again", wish{steps: manySeconds}, endpoints[1]),
	}
	endpoints[1].becomes(l.sometimes(.3, answering(http.StatusBadRequest), healthy))
	turns := func(i int) *topic { return topics[i%2] }
	l.load(d.rate, time.Second, turns).delivered("held up before", patience)

	var p *phase
	var load sync.WaitGroup
	filler := l.fill(disk)
	load.Go(func() { p = l.load(d.rate, d.full, turns) })
	for begun := time.Now(); d.wal && time.Since(begun) < d.full; l.pause(100 * time.Millisecond) {
		// What was set aside for the log is used up, and Postgres needs more.
		if _, err := l.sql.Exec(l.Context(), `SELECT pg_switch_wal()`); err != nil {
			l.report.count("Postgres could not go on", 1)
		}
	}
	load.Wait()
	refused := p.onlyRefused("while the disk is full")
	l.report.bar("some were refused", refused > 0, refused, "> 0")

	l.ok(os.Remove(filler))
	took := l.resumes("there was space again", turns, func() {
		select {
		case <-server.Done(): // whoever runs Postgres starts it again
			l.report.count("Postgres ended", 1)
			if err := server.Restart(l.Context()); err != nil {
				l.Log("start Postgres again:", err)
			}
		default:
		}
	})
	if d.back > 0 {
		l.report.atMost("s until publishing resumed", took.Seconds(), d.back.Seconds())
	}
	l.load(d.rate, time.Second, turns).delivered("held up after", 2*patience)
	p.delivered("lost while the disk was full", patience)
	l.report.bar("the node panicked", !l.nodes[0].panicked(), l.nodes[0].panicked(), "false")
	// Postgres forgets in a crash what the recorder wrote last, and the node does it again.
	l.balance(books{limit: 2 * patience, flying: int64(d.rate)})
}

// smallDisk mounts a file system of so many MiB in memory, in a directory that Postgres may enter. It goes
// with this process, however that ends: a child that waits for its end unmounts it.
func (l *lab) smallDisk(size int) (dir string) {
	l.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		l.Skip("a small disk needs Linux and root, to mount one")
	}
	shared.mu.Lock()
	dir, err := os.MkdirTemp(sharedDir(l.T), "disk-")
	shared.mu.Unlock()
	l.ok(err)
	l.ok(os.Chmod(dir, 0o755))
	mount := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=0755", size), "fanfare-lab", dir)
	if out, err := mount.CombinedOutput(); err != nil {
		l.Skipf("a small disk cannot be mounted here: %v: %s", err, out)
	}
	guard := exec.Command("sh", "-c", `read -r _; umount -l "$0"`, dir)
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is not for it
	alive, err := guard.StdinPipe()
	if err == nil {
		err = guard.Start()
	}
	if err != nil {
		l.Fatal(errors.Join(err, exec.Command("umount", "-l", dir).Run()))
	}
	l.Cleanup(func() {
		alive.Close()
		if err := guard.Wait(); err != nil {
			l.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fill writes a file that takes all the space that a disk has left.
func (l *lab) fill(disk string) (filler string) {
	l.Helper()
	filler = filepath.Join(disk, "filler")
	f, err := os.Create(filler)
	l.ok(err)
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else {
			l.ok(err)
		}
	}
	return filler
}

// postgresOn gives the lab a server of its own in place of the shared one. home is its directory and wal
// that of its write-ahead log; "": where there is room.
func (l *lab) postgresOn(home, wal string) *devpg.Server {
	l.Helper()
	if home == "" {
		var err error
		shared.mu.Lock()
		home, err = os.MkdirTemp(sharedDir(l.T), "own-")
		shared.mu.Unlock()
		l.ok(err)
	}
	options := devpg.Options{Dir: home, TCP: true, Settings: map[string]string{"max_wal_size": "64MB", "min_wal_size": "32MB"}}
	server, err := devpg.Start(l.Context(), options)
	l.ok(err)
	l.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			l.Error(err)
		}
	})
	l.ok(server.CreateDatabase(l.Context(), template))
	_, err = migrations.Up(l.Context(), server.URL(template))
	l.ok(err)
	if wal != "" {
		l.moveWAL(server, filepath.Join(home, "data"), wal)
	}
	l.url = server.URL(template)
	l.env["FANFARE_DATABASE_URL"] = l.url
	l.sql, err = pgxpool.New(l.Context(), l.url)
	l.ok(err)
	l.Cleanup(l.sql.Close)
	return server
}

// moveWAL has a server keep its write-ahead log elsewhere.
func (l *lab) moveWAL(server *devpg.Server, data, to string) {
	l.Helper()
	l.ok(server.Stop(l.Context()))
	from := filepath.Join(data, "pg_wal")
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		l.Fatalf("%v: %s", err, out)
	}
	l.ok(os.RemoveAll(from))
	l.ok(os.Symlink(to, from))
	l.ok(server.Restart(l.Context()))
}

var (
	c9Short    = diskFull{rate: 100, full: 2 * time.Second}
	c9WALShort = diskFull{wal: true, rate: 100, full: 2 * time.Second}
)

func TestAFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	run(t, "C9 short", "", &c9Short).finish(t)
}

func TestAFullDiskOfTheLogLosesNothing(t *testing.T) {
	t.Parallel()
	run(t, "C9 short, pg_wal", "", &c9WALShort).finish(t)
}
