// Command docpage makes the API's documentation from its spec: one HTML page without scripts, complete
// in itself.
//
// It hides how a schema reads in words, and everything about the page's looks.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"

	"github.com/getkin/kin-openapi/openapi3"
)

func main() {
	spec := flag.String("spec", "openapi.yaml", "the spec")
	out := flag.String("out", "docs.gen.html", "the page")
	flag.Parse()
	if err := run(*spec, *out); err != nil {
		fmt.Fprintln(os.Stderr, "docpage:", err)
		os.Exit(1)
	}
}

func run(spec, out string) error {
	text, err := os.ReadFile(spec)
	if err != nil {
		return err
	}
	page, err := render(text)
	if err != nil {
		return err
	}
	return os.WriteFile(out, page, 0o644)
}

// render makes the page of a spec. The same spec gives the same bytes.
func render(spec []byte) ([]byte, error) {
	doc, err := openapi3.NewLoader().LoadFromData(spec)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background(), openapi3.IsOpenAPI31OrLater()); err != nil {
		return nil, err
	}
	var page bytes.Buffer
	if err := layout.Execute(&page, newModel(doc, string(spec))); err != nil {
		return nil, err
	}
	return page.Bytes(), nil
}
