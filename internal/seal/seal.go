// Package seal keeps secrets at rest: what it is given leaves as bytes that are safe in a database
// and its dumps, and that open only in the row and column they were sealed for.
//
// It hides the cipher (AES-256-GCM as of NIST SP 800-38D), key ids, nonces and associated data.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/google/uuid"
)

// The kinds of error of [Keyring.Open] and [KeyID].
var (
	ErrUnknownKey = errors.New("sealed with a key that is not in the keyring")
	ErrTampered   = errors.New("sealed bytes are damaged, or belong to another place")
)

const (
	version  = 1
	keyBytes = 32
	maxID    = 32
)

// Keyring holds the key-encryption keys of an installation. It never changes, may be used by many
// goroutines, and prints as the ids of its keys only.
type Keyring struct {
	keys []key // newest first, at least one
}

type key struct {
	id   string
	aead cipher.AEAD
}

// Parse reads "id:key[,id:key…]", newest first. An id is 1 to 32 of A–Z a–z 0–9 - _, a key 32 bytes
// in standard base64 with padding (44 characters); space around an entry is ignored. The error names
// every fault, one a line, by the number of its entry; it repeats nothing of s.
func Parse(s string) (*Keyring, error) {
	var (
		ring   Keyring
		faults []error
		seen   [][]byte
	)
	for i, entry := range strings.Split(s, ",") {
		n := i + 1
		id, text, ok := strings.Cut(strings.TrimSpace(entry), ":")
		if !ok {
			faults = append(faults, fmt.Errorf("encryption key %d is not of the form id:key", n))
			continue
		}
		if !validID(id) {
			faults = append(faults, fmt.Errorf("encryption key %d: the id is not 1 to %d of A-Z a-z 0-9 - _", n, maxID))
		}
		for _, k := range ring.keys {
			if k.id == id {
				faults = append(faults, fmt.Errorf("encryption key %d: the id is that of another key", n))
			}
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(text)
		switch {
		case err != nil: // the decoder's own words are left out: they may quote the key
			faults = append(faults, fmt.Errorf("encryption key %d: the key is not standard base64", n))
			continue
		case len(raw) != keyBytes:
			faults = append(faults, fmt.Errorf("encryption key %d: the key has %d bytes, not %d", n, len(raw), keyBytes))
			continue
		}
		for _, other := range seen {
			if subtle.ConstantTimeCompare(raw, other) == 1 {
				faults = append(faults, fmt.Errorf("encryption key %d: the key is the same as another", n))
			}
		}
		seen = append(seen, raw)
		ring.keys = append(ring.keys, key{id, newAEAD(raw)})
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return &ring, nil
}

// Generate makes a new key in the form that [Parse] reads.
func Generate(id string) (string, error) {
	if !validID(id) {
		return "", fmt.Errorf("key id %q is not 1 to %d of A-Z a-z 0-9 - _", id, maxID)
	}
	raw := make([]byte, keyBytes)
	rand.Read(raw)
	return id + ":" + base64.StdEncoding.EncodeToString(raw), nil
}

// Place says where sealed bytes live. They open nowhere else.
type Place struct {
	Account uuid.UUID
	Object  uuid.UUID // the row: a webhook, a secret
	Column  string
}

// Seal encrypts plain with the newest key:
//
//	version (1) | length of the key id (1) | key id | nonce (12) | ciphertext | tag (16)
//
// The nonce is random, which is safe for some four billion values under one key.
func (k *Keyring) Seal(p Place, plain []byte) []byte {
	newest := &k.keys[0]
	out := make([]byte, 0, 2+len(newest.id)+newest.aead.Overhead()+len(plain))
	out = append(out, version, byte(len(newest.id)))
	out = append(out, newest.id...)
	return newest.aead.Seal(out, nil, plain, associated(out, p))
}

// Open decrypts what [Keyring.Seal] made for the same place with any key of the ring. The error is
// [ErrUnknownKey] or [ErrTampered].
func (k *Keyring) Open(p Place, sealed []byte) ([]byte, error) {
	id, err := KeyID(sealed)
	if err != nil {
		return nil, err
	}
	for i := range k.keys {
		if k.keys[i].id != id {
			continue
		}
		header, body := sealed[:2+len(id)], sealed[2+len(id):]
		plain, err := k.keys[i].aead.Open(nil, nil, body, associated(header, p))
		if err != nil {
			return nil, fmt.Errorf("open %s with key %q: %w", p.Column, id, ErrTampered)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("open %s with key %q: %w", p.Column, id, ErrUnknownKey)
}

// KeyID names the key that sealed the bytes. The error is [ErrTampered].
func KeyID(sealed []byte) (string, error) {
	if len(sealed) < 2 || sealed[0] != version || len(sealed) < 2+int(sealed[1]) {
		return "", fmt.Errorf("read the key id: %w", ErrTampered)
	}
	id := string(sealed[2 : 2+int(sealed[1])])
	if !validID(id) {
		return "", fmt.Errorf("read the key id: %w", ErrTampered)
	}
	return id, nil
}

// Newest is the id of the key that [Keyring.Seal] uses: bytes with another [KeyID] are due for rotation.
func (k *Keyring) Newest() string { return k.keys[0].id }

// String lists the ids of the keys.
func (k Keyring) String() string {
	ids := make([]string, len(k.keys))
	for i := range k.keys {
		ids[i] = k.keys[i].id
	}
	return "seal.Keyring(" + strings.Join(ids, ",") + ")"
}

// GoString is [Keyring.String], so that %#v shows no key either.
func (k Keyring) GoString() string { return k.String() }

// LogValue is [Keyring.String], so that slog shows no key either.
func (k Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }

// associated is header, account, object, column: the first tells its own length and the next two are
// of fixed length, so that no two places give the same bytes.
func associated(header []byte, p Place) []byte {
	ad := make([]byte, 0, len(header)+2*len(p.Account)+len(p.Column))
	ad = append(ad, header...)
	ad = append(ad, p.Account[:]...)
	ad = append(ad, p.Object[:]...)
	return append(ad, p.Column...)
}

// newAEAD takes a key of keyBytes bytes, for which neither constructor fails.
func newAEAD(raw []byte) cipher.AEAD {
	block, err := aes.NewCipher(raw)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func validID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= maxID
}
