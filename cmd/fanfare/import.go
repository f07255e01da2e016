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
	var a access
	var o importer.Options
	var accounts, scheme string
	c := &cobra.Command{
		Use:   "import " + strings.Join(importer.Sources(), "|") + " FILE",
		Short: "Make webhooks of what another sender exports",
		Long: `Make webhooks of what another sender exports: Kazoo's webhook documents, or the lists of endpoints of Svix and
Convoy as their APIs answer them, any number of them in one file (-: standard input).

It reports each by its line in the file, what of it could not be carried over, and why it was not imported if it was
not. What an earlier import made is left alone. The key needs the scopes read and write.` + accessHelp + ` A --dry-run that no server
was named for asks none.`,
		Args: cobra.ExactArgs(2),
	}
	a.flags(c)
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would be done, and do nothing")
	c.Flags().StringVar(&accounts, "accounts", "", `a JSON file of accounts by the ids that the export names: {"a1b2…": "0190…"}`)
	c.Flags().StringToStringVar(&o.Types, "type", nil, "an event type's name there and here, such as channel_destroy=call.ended")
	c.Flags().StringSliceVar(&o.Wanted, "event-types", nil, "event types of what does not say which it wants")
	c.Flags().StringVar(&scheme, "signature", "", `how they are signed, instead of as their receivers know it: {"scheme":"github"}`)
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		o.Source, o.Target = args[0], a.target
		if !o.DryRun || a.named() {
			if o.Target, err = a.find(); err != nil {
				return err
			}
		}
		if scheme != "" {
			if o.Signature = json.RawMessage(scheme); !json.Valid(o.Signature) {
				return errors.New("--signature: that is not JSON")
			}
		}
		if accounts != "" {
			text, err := os.ReadFile(accounts)
			if err != nil {
				return err
			}
			if json.Unmarshal(text, &o.Accounts) != nil || o.Accounts == nil {
				return fmt.Errorf("--accounts: %s is not a JSON object of texts", accounts)
			}
		}
		export := c.InOrStdin()
		if args[1] != "-" {
			f, err := os.Open(args[1])
			if err != nil {
				return err
			}
			defer f.Close()
			export = f
		}
		return importer.Import(c.Context(), o, export, c.OutOrStdout())
	}
	return c
}
