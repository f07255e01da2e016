package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestThePageIsThatOfTheSpec(t *testing.T) {
	page, err := render(read(t, "../../openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(page, read(t, "../../docs.gen.html")) {
		t.Error("docs.gen.html is not what openapi.yaml gives: run go generate ./api")
	}
}

func TestThePageIsCompleteInItself(t *testing.T) {
	page := string(read(t, "../../docs.gen.html"))
	for _, foreign := range []string{"<script", "src=", "@import", "url(", "<link", "<iframe", `style="`} {
		if strings.Contains(page, foreign) {
			t.Errorf("the page has %s", foreign)
		}
	}
	ids := make(map[string]bool)
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]] {
			t.Errorf("the id %s stands twice", m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !ids[m[1]] {
			t.Errorf("a link leads to #%s, which is not there", m[1])
		}
	}
}

func TestMarkup(t *testing.T) {
	got := markup("A *b* `*c*` **d**\n\n<x> & `<y>`")
	if want := "<p>A <em>b</em> <code>*c*</code> <strong>d</strong></p><p>&lt;x&gt; &amp; <code>&lt;y&gt;</code></p>"; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
