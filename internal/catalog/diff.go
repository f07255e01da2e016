package catalog

import (
	"fmt"
	"io"
	"strings"

	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// Print writes what applying a catalog changes, one line an event type, and a line that sums it up.
func Print(w io.Writer, steps []store.CatalogStep, dryRun bool) error {
	var text strings.Builder
	for _, s := range steps {
		switch s.Action {
		case store.CatalogAdd:
			fmt.Fprintf(&text, "+ %s\n", s.Name)
		case store.CatalogChange:
			fmt.Fprintf(&text, "~ %s: %s\n", s.Name, strings.Join(s.Members, ", "))
		case store.CatalogArchive:
			fmt.Fprintf(&text, "- %s: archived, since the file lacks it\n", s.Name)
		}
	}
	fmt.Fprintf(&text, "%s\n", Summary(steps))
	if dryRun {
		text.WriteString("nothing was written: this was a dry run\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// Summary counts what applying a catalog changes.
func Summary(steps []store.CatalogStep) string {
	n := make(map[store.CatalogAction]int)
	for _, s := range steps {
		n[s.Action]++
	}
	return fmt.Sprintf("%d added, %d changed, %d archived, %d unchanged",
		n[store.CatalogAdd], n[store.CatalogChange], n[store.CatalogArchive], n[store.CatalogNoAction])
}
