package main

import (
	_ "embed"
	"html/template"
	"strings"
)

//go:embed layout.html
var layoutText string

var layout = template.Must(template.New("page").Funcs(template.FuncMap{
	"lower": strings.ToLower,
	"path":  breakable,
	"class": func(status string) string { return "s" + status[:1] },
}).Parse(layoutText))

// breakable lets a path break at its slashes and shows its parameters.
func breakable(path string) template.HTML {
	text := template.HTMLEscapeString(path)
	text = strings.ReplaceAll(text, "/", "<wbr>/")
	return template.HTML(strings.NewReplacer("{", "<i>{", "}", "}</i>").Replace(text))
}
