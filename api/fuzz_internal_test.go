package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare/internal/seal"
)

// No text opens as a cursor but those that were sealed, for the list that they were sealed for.
func FuzzCursor(f *testing.F) {
	text, err := seal.Generate("k")
	if err != nil {
		f.Fatal(err)
	}
	keyring, err := seal.Parse(text)
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{keyring: keyring}
	list := listID("webhooks")
	good := s.sealCursor(uuid.Nil, list, []byte("a place"))
	if place, ok := s.openCursor(uuid.Nil, list, good); !ok || string(place) != "a place" {
		f.Fatalf("a good cursor opens as %q, %v", place, ok)
	}
	if _, ok := s.openCursor(uuid.Nil, listID("events"), good); ok {
		f.Fatal("a cursor opens for another list")
	}
	f.Add(good)
	f.Add("")
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, cursor string) {
		if _, ok := s.openCursor(uuid.Nil, list, cursor); ok && cursor != good {
			t.Errorf("%q opens", cursor)
		}
	})
}

// A token is what stands after one "Bearer ", and nothing makes the parsing panic.
func FuzzBearer(f *testing.F) {
	f.Add("Bearer ffk_x")
	f.Add("bearer  ")
	f.Add("Basic abc")
	f.Fuzz(func(t *testing.T, header string) {
		token, ok := bearer(http.Header{"Authorization": {header}})
		if ok != (len(header) > 7 && len(header) <= 7+maxKey && strings.EqualFold(header[:7], "Bearer ")) {
			t.Errorf("%q: %v", header, ok)
		}
		if ok && token != header[7:] {
			t.Errorf("%q: token %q", header, token)
		}
	})
}
