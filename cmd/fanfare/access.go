package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/fanfare-webhooks/fanfare/internal/client"
)

// access is how a command that is a client of the API finds its server.
type access struct {
	target client.Target
	dev    string
}

const accessHelp = `

The server is the one of --url and --key, or else of the environment (FANFARE_URL and FANFARE_KEY), or else the
'fanfare dev' of this machine.`

func (a *access) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.target.URL, "url", "", "URL of the server")
	f.StringVar(&a.target.Key, "key", "", "API key; better given as FANFARE_KEY, which other users of the machine cannot see")
	f.StringVar(&a.target.Account, "account", "me", "account; me is the key's own")
	f.StringVar(&a.dev, "dev", "", "directory of the 'fanfare dev' to use")
	c.MarkFlagsMutuallyExclusive("dev", "url")
}

// named reports whether a server was named, rather than left to be found.
func (a *access) named() bool { return cmp.Or(a.target.URL, a.dev, os.Getenv("FANFARE_URL")) != "" }

func (a *access) find() (client.Target, error) {
	t := a.target
	if a.dev == "" {
		t.URL, t.Key = cmp.Or(t.URL, os.Getenv("FANFARE_URL")), cmp.Or(t.Key, os.Getenv("FANFARE_KEY"))
		switch {
		case t.URL != "" && t.Key == "":
			return t, errors.New("a URL without a key: give --key or FANFARE_KEY")
		case t.URL != "":
			return t, nil
		}
	}
	c, err := client.FindDev(a.dev)
	if err != nil {
		return t, fmt.Errorf("%w: start it, or give --url and --key", err)
	}
	t.URL, t.Key = c.URL, cmp.Or(a.target.Key, c.AccountKey)
	return t, nil
}
