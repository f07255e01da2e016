package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fanfare-webhooks/fanfare/internal/importer"
)

func importHooks() *cobra.Command {
	o := importer.Options{URL: os.Getenv("FANFARE_URL")}
	var accounts, scheme string
	c := &cobra.Command{
		Use:   "import " + strings.Join(importer.Sources(), "|") + " FILE",
		Short: "Make webhooks of what another sender exports",
		Long: `Make webhooks of what another sender exports: Kazoo's webhook documents, or the lists of endpoints of Svix and
Convoy as their APIs answer them, any number of them in one file (-: standard input).

It reports each by its line in the file, what of it could not be carried over, and why it was not imported if it was
not. What an earlier import made is left alone. The key needs the scopes read and write; without --url, --dry-run does
not ask a node.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			o.Source = args[0]
			if err := importFlags(&o, accounts, scheme); err != nil {
				return err
			}
			file := c.InOrStdin()
			if args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return err
				}
				defer f.Close()
				file = f
			}
			return importer.Import(c.Context(), o, file, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would be done, and do nothing")
	c.Flags().StringVar(&o.URL, "url", o.URL, "the node's address, such as https://fanfare.example.com (FANFARE_URL)")
	c.Flags().StringVar(&o.Key, "key", "", "an API key (FANFARE_KEY)")
	c.Flags().StringVar(&o.Account, "account", "me", "the account whose webhooks they become")
	c.Flags().StringVar(&accounts, "accounts", "", `a JSON file of accounts by the ids that the export names: {"a1b2…": "0190…"}`)
	c.Flags().StringToStringVar(&o.Types, "type", nil, "an event type's name there and here, such as channel_destroy=call.ended")
	c.Flags().StringSliceVar(&o.Wanted, "event-types", nil, "event types of what does not say which it wants")
	c.Flags().StringVar(&scheme, "signature", "", `how they are signed, instead of as their receivers know it: {"scheme":"github"}`)
	return c
}

// importFlags checks what was given and reads what it names.
func importFlags(o *importer.Options, accounts, scheme string) error {
	if o.Key == "" {
		o.Key = os.Getenv("FANFARE_KEY")
	}
	switch {
	case o.URL == "" && !o.DryRun:
		return errors.New("--url: required, such as https://fanfare.example.com")
	case o.URL != "" && !strings.HasPrefix(o.URL, "http://") && !strings.HasPrefix(o.URL, "https://"):
		return fmt.Errorf("--url: %q does not begin with http:// or https://", o.URL)
	case o.URL != "" && o.Key == "":
		return errors.New("--key: required")
	}
	if accounts != "" {
		text, err := os.ReadFile(accounts)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &o.Accounts); err != nil || o.Accounts == nil {
			return fmt.Errorf("--accounts: %s is no JSON object of texts", accounts)
		}
	}
	if scheme != "" {
		if !json.Valid([]byte(scheme)) {
			return errors.New("--signature: not JSON")
		}
		o.Signature = json.RawMessage(scheme)
	}
	return nil
}
