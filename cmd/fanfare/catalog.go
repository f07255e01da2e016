package main

import (
	"github.com/spf13/cobra"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/catalog"
)

func catalogCommand() *cobra.Command {
	dryRun := false
	apply := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make the event types be those of a file, and print what that changes",
		Long: `Make the event types be those of a file (YAML or JSON): add and change what differs, and archive what an earlier
file brought and this one lacks. What was made through the API is left alone, unless the file has it too. A file
with a fault is refused whole. The database is that of FANFARE_DATABASE_URL; running nodes follow at once.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			types, err := catalog.Load(args[0])
			if err != nil {
				return err
			}
			url, err := databaseURL()
			if err != nil {
				return err
			}
			s, err := openStore(c.Context(), url)
			if err != nil {
				return err
			}
			defer s.Close()
			apply := s.ApplyCatalog
			if dryRun {
				apply = s.PlanCatalog
			}
			steps, err := apply(c.Context(), fanfare.OriginFile, types)
			if err != nil {
				return err
			}
			return catalog.Print(c.OutOrStdout(), steps, dryRun)
		},
	}
	apply.Flags().BoolVar(&dryRun, "dry-run", false, "only print what would change")
	c := &cobra.Command{Use: "catalog", Short: "Event types"}
	c.AddCommand(apply)
	return c
}
