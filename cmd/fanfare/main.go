// Command fanfare is the whole of Fanfare: flags and signals, and nothing else. It hides nothing; the
// work is wired in internal/app.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/app"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/version"
	"github.com/fanfare-webhooks/fanfare/migrations"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() { <-ctx.Done(); stop() }() // a second signal ends the process at once
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fanfare:", err)
		os.Exit(1) //nolint:gocritic // stop has nothing left to do
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "fanfare",
		Short:         "Send webhooks: signed, at least once, visible in a log",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		dev(), serve(), migrate(), keys(), catalogCommand(), trigger(), listenTo(), importHooks(), bench(), showVersion(),
	)
	return root
}

func dev() *cobra.Command {
	var o app.DevOptions
	var level slog.LevelVar
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: Postgres, a demo account, the server, a test receiver",
		Long: `Run everything on this machine: Postgres, a demo account, the server, a test receiver. A catalog file that
FANFARE_CATALOG names is applied at the start, as by 'fanfare serve'.`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&o.Dir, "data", "", "directory of the data (default: in the user's cache directory)")
	c.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8080", "address of the API")
	c.Flags().StringVar(&o.Admin, "admin", "127.0.0.1:9090", "address of metrics and health")
	c.Flags().BoolVar(&o.DenyLoopback, "deny-loopback", false, "apply production's rule: no webhook may point to this machine")
	c.Flags().TextVar(&level, "log-level", &level, "debug, info, warn or error")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o.Catalog = os.Getenv("FANFARE_CATALOG")
		log := logTo(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: &level}))
		return app.Dev(c.Context(), o, log, c.OutOrStdout())
	}
	return c
}

func serve() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run a production node, configured by the environment",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := loadConfig()
			if err != nil {
				return err
			}
			log := logTo(slog.NewJSONHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: config.Level()}))
			a, err := app.Start(c.Context(), config, log)
			if err != nil {
				return err
			}
			log.Info("serving", "api", a.PublicAddr, "admin", a.AdminAddr, "version", version.Number)
			return a.Serve(c.Context())
		},
	}
	var help strings.Builder
	help.WriteString("Run a production node. It is configured by the environment:\n\n")
	table := tabwriter.NewWriter(&help, 0, 0, 2, ' ', 0)
	for _, v := range app.Variables() {
		def := ""
		if v.Default != "" {
			def = " (" + v.Default + ")"
		}
		fmt.Fprintf(table, "  %s\t%s%s\n", v.Name, v.Doc, def)
	}
	table.Flush()
	c.Long = help.String()
	return c
}

// logTo makes the process's log. What libraries print (net/http: bytes of a receiver) is worth a debug line.
func logTo(h slog.Handler) *slog.Logger {
	log := slog.New(h)
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
	return log
}

func loadConfig() (*app.Config, error) {
	config, err := app.LoadConfig(environ())
	if err != nil {
		return nil, fmt.Errorf("the configuration has faults:\n  %s", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return config, nil
}

func environ() map[string]string {
	all := make(map[string]string)
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		all[name] = value
	}
	return all
}

// databaseURL is all that a command needs which does not serve.
func databaseURL() (string, error) {
	for _, name := range []string{"FANFARE_DATABASE_URL", "DATABASE_URL"} {
		if url := os.Getenv(name); url != "" {
			return url, nil
		}
	}
	return "", errors.New("FANFARE_DATABASE_URL: required, such as postgres://user@host/fanfare")
}

// openStore connects to a database that this build can use.
func openStore(ctx context.Context, url string) (*store.Store, error) {
	if err := migrations.Check(ctx, url); errors.Is(err, migrations.ErrPending) {
		return nil, errors.New("the database is not migrated: run 'fanfare migrate up'")
	} else if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Options{URL: url})
}

func migrate() *cobra.Command {
	up := func(c *cobra.Command, _ []string) error {
		url, err := databaseURL()
		if err != nil {
			return err
		}
		applied, err := migrations.Up(c.Context(), url)
		for _, m := range applied {
			fmt.Fprintln(c.OutOrStdout(), "applied", m.Name)
		}
		if err == nil && len(applied) == 0 {
			fmt.Fprintln(c.OutOrStdout(), "nothing to apply")
		}
		return err
	}
	status := func(c *cobra.Command, _ []string) error {
		url, err := databaseURL()
		if err != nil {
			return err
		}
		all, err := migrations.Status(c.Context(), url)
		for _, m := range all {
			state := "pending"
			if !m.AppliedAt.IsZero() {
				state = "applied " + m.AppliedAt.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s  %s\n", m.Name, state)
		}
		return err
	}
	c := &cobra.Command{Use: "migrate", Short: "Bring the database's schema up to date (safe from several places at once)", Args: cobra.NoArgs, RunE: up}
	c.AddCommand(
		&cobra.Command{Use: "up", Short: "Apply what is pending", Args: cobra.NoArgs, RunE: up},
		&cobra.Command{Use: "status", Short: "List the migrations", Args: cobra.NoArgs, RunE: status},
	)
	return c
}

func keys() *cobra.Command {
	var (
		platform bool
		account  string
		scopes   []string
		name     string
	)
	create := &cobra.Command{
		Use:   "create",
		Short: "Make an API key without the API; it is printed once",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			owner, err := keyOwner(platform, account)
			if err != nil {
				return err
			}
			granted, err := parseScopes(scopes)
			if err != nil {
				return err
			}
			url, err := databaseURL()
			if err != nil {
				return err
			}
			if name = strings.ToValidUTF8(name, "\uFFFD"); len(name) > 200 {
				return errors.New("--name: at most 200 bytes")
			}
			s, err := openStore(c.Context(), url)
			if err != nil {
				return err
			}
			defer s.Close()
			text, err := app.CreateKey(c.Context(), s, owner, name, granted)
			if errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("there is no account %s", account)
			}
			if err == nil {
				fmt.Fprintln(c.OutOrStdout(), text)
			}
			return err
		},
	}
	create.Flags().BoolVar(&platform, "platform", false, "a platform key, which acts on everything")
	create.Flags().StringVar(&account, "account", "", "the account whose key it is")
	create.Flags().StringSliceVar(&scopes, "scopes", nil, "publish, read, write, secrets, admin (default: all)")
	create.Flags().StringVar(&name, "name", "made by fanfare keys create", "what the key is for")
	c := &cobra.Command{Use: "keys", Short: "API keys"}
	c.AddCommand(create)
	return c
}

func keyOwner(platform bool, account string) (owner uuid.NullUUID, err error) {
	if platform == (account != "") {
		return owner, errors.New("give either --platform or --account ID")
	}
	if platform {
		return owner, nil
	}
	if owner.UUID, err = uuid.Parse(account); err != nil {
		return owner, fmt.Errorf("--account: %q is not a UUID", account)
	}
	owner.Valid = true
	return owner, nil
}

func parseScopes(texts []string) ([]fanfare.Scope, error) {
	if len(texts) == 0 {
		return fanfare.Scopes(), nil
	}
	var scopes []fanfare.Scope
	for _, text := range texts {
		found := false
		for _, s := range fanfare.Scopes() {
			if string(s) == text {
				scopes, found = append(scopes, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("--scopes: %q is none of publish, read, write, secrets, admin", text)
		}
	}
	return scopes, nil
}

func showVersion() *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "version",
		Short: "Show which build this is",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return printVersion(c.OutOrStdout(), asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func printVersion(w io.Writer, asJSON bool) error {
	v := version.Get()
	if asJSON {
		return json.NewEncoder(w).Encode(v)
	}
	if v.Commit == "" {
		v.Commit = "unknown"
	}
	_, err := fmt.Fprintf(w, "fanfare %s (commit %s, %s)\n", v.Version, v.Commit, v.Go)
	return err
}
