package client

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestCredentialsAreFoundAsTheyWereWritten(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	own, err := DevDir("")
	if err != nil || os.MkdirAll(own, 0o700) != nil {
		t.Fatal(err)
	}
	want := Credentials{URL: "http://127.0.0.1:1", AdminURL: "a", PlatformKey: "p", AccountID: uuid.New(), AccountKey: "k", DatabaseURL: "d", PID: 3}
	for _, dir := range []string{t.TempDir(), ""} {
		in, _ := DevDir(dir)
		for range 2 { // also over those of an earlier start
			if err := want.Write(in); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := FindDev(dir); err != nil || *got != want {
			t.Errorf("%+v, %v", got, err)
		}
		if all, _ := filepath.Glob(filepath.Join(in, "*")); len(all) != 1 {
			t.Errorf("left behind: %v", all)
		}
		if info, err := os.Stat(CredentialsFile(in)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("others may read the keys: %v, %v", info, err)
		}
	}
}

func TestWhereNoDevHasRunNothingIsFound(t *testing.T) {
	dir := t.TempDir()
	if _, err := FindDev(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no 'fanfare dev' has run on "+dir) {
		t.Error(err)
	}
	for _, text := range []string{"", "{", "{}", `{"url":"http://x","account_id":"no UUID"}`} {
		if err := os.WriteFile(CredentialsFile(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := FindDev(dir); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), CredentialsFile(dir)) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := new(Credentials).Write(filepath.Join(dir, "none")); err == nil {
		t.Error("written into no directory")
	}
}
