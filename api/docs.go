package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
)

//go:embed openapi.yaml
var specYAML []byte

// docsHTML is the spec as a page, made by go generate.
//
//go:embed docs.gen.html
var docsHTML []byte

// docsPolicy lets the page use its own style, by its hash, and nothing else: no script, no request to
// anybody.
var docsPolicy = "default-src 'none'; style-src " + styleHash(docsHTML) + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func styleHash(page []byte) string {
	_, rest, _ := bytes.Cut(page, []byte("<style>"))
	style, _, _ := bytes.Cut(rest, []byte("</style>"))
	sum := sha256.Sum256(style)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

var (
	specTag = contentTag(specYAML)
	docsTag = contentTag(docsHTML)
)

func contentTag(b []byte) string {
	sum := sha256.Sum256(b)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

func spec(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
	w.Header().Set("Access-Control-Allow-Origin", "*") // viewers of specs run in browsers
	serveStatic(w, r, specYAML, specTag)
}

func docs(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", docsPolicy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	serveStatic(w, r, docsHTML, docsTag)
}

func serveStatic(w http.ResponseWriter, r *http.Request, body []byte, tag string) {
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// healthy says that the process answers; whether it can do its work is the admin listener's to say.
func healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header()["Cache-Control"] = noStore
	_, _ = w.Write([]byte("OK"))
}
