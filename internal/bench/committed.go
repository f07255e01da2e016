package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The committed figures are in one file of the documentation, and shown between two lines of another.
const (
	figuresFile = "benchmarks.json"
	figuresPage = "benchmarks.md"
	beginMark   = "<!-- the standard set: from benchmarks.json -->"
	endMark     = "<!-- the standard set ends -->"
)

// ReadFigures reads the committed figures of a docs directory; none if there are none.
func ReadFigures(dir string) (all []*Figures, err error) {
	text, err := os.ReadFile(filepath.Join(dir, figuresFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	return all, err
}

// WriteFigures commits figures: they replace those of the same cases, and the page shows all of them in
// the order of the standard set.
func WriteFigures(dir string, order []Case, now []*Figures) error {
	older, err := ReadFigures(dir)
	if err != nil {
		return err
	}
	var all []*Figures
	for _, c := range order {
		f := find(now, c.Name)
		if f == nil {
			f = find(older, c.Name)
		}
		if f != nil {
			all = append(all, f)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, figuresPage))
	if err != nil {
		return err
	}
	shown, err := show(string(page), all)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, figuresFile), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, figuresPage), []byte(shown), 0o644),
	)
}

// show puts figures on the page.
func show(page string, all []*Figures) (string, error) {
	before, rest, ok1 := strings.Cut(page, beginMark+"\n")
	_, after, ok2 := strings.Cut(rest, endMark+"\n")
	if !ok1 || !ok2 {
		return "", fmt.Errorf("%s: no place for figures between %q and %q", figuresPage, beginMark, endMark)
	}
	var table strings.Builder
	markdown(&table, all)
	return before + beginMark + "\n\n" + table.String() + "\n" + endMark + "\n" + after, nil
}
