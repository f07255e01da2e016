package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fanfare-webhooks/fanfare/internal/listen"
	"github.com/fanfare-webhooks/fanfare/signature"
)

func trigger() *cobra.Command {
	var a access
	var data string
	c := &cobra.Command{
		Use:   "trigger TYPE",
		Short: "Publish an event: a sample of the type, or data of your own",
		Long:  `Publish an event of a type. Its data is the first sample that the catalog has of the type, unless --data says otherwise.` + accessHelp,
		Args:  cobra.ExactArgs(1),
	}
	a.flags(c)
	c.Flags().StringVar(&data, "data", "", "the event's data as JSON, @FILE to read it from a file, @- from the standard input")
	c.RunE = func(c *cobra.Command, args []string) error {
		raw, err := eventData(data, c.InOrStdin())
		if err != nil {
			return err
		}
		target, err := a.find()
		if err != nil {
			return err
		}
		r, err := listen.Trigger(c.Context(), target, args[0], raw)
		if err == nil {
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s  %s  matched %d webhooks\n", args[0], r.ID, r.Matched)
		}
		return err
	}
	return c
}

// eventData is nil if none is given.
func eventData(text string, in io.Reader) (raw []byte, err error) {
	name, file := strings.CutPrefix(text, "@")
	switch {
	case text == "":
		return nil, nil
	case name == "-" && file:
		raw, err = io.ReadAll(in)
	case file:
		raw, err = os.ReadFile(name)
	default:
		raw = []byte(text)
	}
	if err == nil && !json.Valid(raw) {
		err = errors.New("--data: that is not JSON")
	}
	return raw, err
}

func listenTo() *cobra.Command {
	var a access
	var o listen.Options
	var secret string
	c := &cobra.Command{
		Use:   "listen --forward URL",
		Short: "Post an account's events to a server on this machine, as they happen",
		Long: `Follow an account's events and post each to a URL that only this machine can reach, signed as Fanfare
signs (Standard Webhooks): development without a tunnel and without a webhook. What comes back is printed, and
nothing is tried again. The signing secret is always the same for one key, and printed at the start.

It waits for a server that is away, and misses nothing meanwhile.` + accessHelp,
		Args: cobra.NoArgs,
	}
	a.flags(c)
	f := c.Flags()
	f.StringVar(&o.Forward, "forward", "", "where to post to, such as http://localhost:3000/hook")
	f.StringSliceVar(&o.Types, "types", nil, "only these event types: names, prefix.* or * (default: all)")
	f.BoolVar(&o.Descendants, "descendants", false, "also the events of all accounts below")
	f.StringVar(&o.Since, "since", "", "begin after this event's id or cursor, or at the oldest that is kept with 'oldest' (default: what happens from now on)")
	f.StringVar(&secret, "secret", "", "sign with this secret (whsec_…)")
	f.DurationVar(&o.Timeout, "timeout", 30*time.Second, "how long the server at --forward may take")
	if err := c.MarkFlagRequired("forward"); err != nil {
		panic(err) // the flag is there
	}
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if secret != "" {
			parsed, err := signature.ParseSecret(secret)
			if err != nil {
				return fmt.Errorf("--secret: %w", err)
			}
			o.Secret = &parsed
		}
		if o.Target, err = a.find(); err != nil {
			return err
		}
		o.Out = c.OutOrStdout()
		return listen.Run(c.Context(), o)
	}
	return c
}
