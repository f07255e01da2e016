package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/fanfare-webhooks/fanfare/internal/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheServerIsFoundWhereItIsNamed(t *testing.T) {
	dev := t.TempDir()
	if err := (&client.Credentials{URL: "http://dev", AccountKey: "of-dev"}).Write(dev); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // where no dev has run
	t.Setenv("HOME", t.TempDir())
	for _, x := range []struct {
		flags    string
		url, key string // of the environment
		want     client.Target
		fault    string
	}{
		{"--url http://flag --key of-flag --account a", "http://env", "of-env", client.Target{URL: "http://flag", Key: "of-flag", Account: "a"}, ""},
		{"--url http://flag", "", "of-env", client.Target{URL: "http://flag", Key: "of-env", Account: "me"}, ""},
		{"", "http://env", "of-env", client.Target{URL: "http://env", Key: "of-env", Account: "me"}, ""},
		{"--key of-flag", "http://env", "of-env", client.Target{URL: "http://env", Key: "of-flag", Account: "me"}, ""},
		{"--dev " + dev, "http://env", "of-env", client.Target{URL: "http://dev", Key: "of-dev", Account: "me"}, ""},
		{"--key of-flag --dev " + dev, "", "", client.Target{URL: "http://dev", Key: "of-flag", Account: "me"}, ""},
		{"", "http://env", "", client.Target{}, "a URL without a key"},
		{"", "", "of-env", client.Target{}, "no 'fanfare dev' has run on"},
	} {
		t.Setenv("FANFARE_URL", x.url)
		t.Setenv("FANFARE_KEY", x.key)
		var a access
		c := &cobra.Command{}
		a.flags(c)
		if err := c.ParseFlags(strings.Fields(x.flags)); err != nil {
			t.Fatal(err)
		}
		got, err := a.find()
		if x.fault != "" {
			if err == nil || !strings.Contains(err.Error(), x.fault) || !strings.Contains(err.Error(), "--key") {
				t.Errorf("%q: %v", x.flags, err)
			}
			continue
		}
		if err != nil || got != x.want {
			t.Errorf("%q: %+v, %v", x.flags, got, err)
		}
		if !a.named() {
			t.Errorf("%q names a server", x.flags)
		}
	}
}
