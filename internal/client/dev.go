package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// Credentials is what `fanfare dev` writes to credentials.json in its directory, for people, for commands
// and for tests.
type Credentials struct {
	URL         string    `json:"url"`
	AdminURL    string    `json:"admin_url"`
	PlatformKey string    `json:"platform_key"`
	AccountID   uuid.UUID `json:"account_id"`
	AccountKey  string    `json:"account_key"`
	DatabaseURL string    `json:"database_url"`
	PID         int       `json:"pid"`
}

// CredentialsFile is its path for the `fanfare dev` of a directory.
func CredentialsFile(dir string) string { return filepath.Join(dir, "credentials.json") }

// DevDir is where `fanfare dev` has its data; "" stands for a place in the user's cache.
func DevDir(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "fanfare", "dev"), err
}

// FindDev reads what the `fanfare dev` of a directory wrote, "" for the one that it takes by itself. The
// error is [fs.ErrNotExist] if none has run there.
func FindDev(dir string) (*Credentials, error) {
	dir, err := DevDir(dir)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(CredentialsFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no 'fanfare dev' has run on %s: %w", dir, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	var c Credentials
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", CredentialsFile(dir), err)
	}
	if c.URL == "" {
		return nil, fmt.Errorf("%s says no URL", CredentialsFile(dir))
	}
	return &c, nil
}

// Write replaces the file in a directory in one step, so that nobody reads half of it.
func (c *Credentials) Write(dir string) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	file := CredentialsFile(dir)
	tmp, err := os.CreateTemp(dir, filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(text, '\n'))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
