package signature_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

const guides = "../docs/guides/verifying/"

// guide is a page about one scheme.
type guide struct {
	name     string
	scheme   signature.Scheme
	snippets map[string]string // by language
}

func readGuide(t *testing.T, name string) *guide {
	t.Helper()
	page, err := os.ReadFile(guides + name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	g := &guide{name: name, snippets: make(map[string]string)}
	for _, block := range regexp.MustCompile("(?s)```(\\w+)\n(.*?)\n```").FindAllSubmatch(page, -1) {
		g.snippets[string(block[1])] = string(block[2])
	}
	var webhook struct{ Signature signature.Scheme }
	if err := json.Unmarshal([]byte(g.snippets["json"]), &webhook); err != nil || len(g.snippets) != 7 {
		t.Fatalf("%s: %v; %d snippets", name, err, len(g.snippets))
	}
	g.scheme = webhook.Signature
	return g
}

// request is one that a snippet judges.
type request struct {
	About   string            `json:"-"`
	Good    bool              `json:"-"`
	Headers map[string]string `json:"headers"` // names in lower case
	Body    string            `json:"body"`    // base64
	Secret  string            `json:"secret"`
}

// requests are good ones and bad ones.
func (g *guide) requests() (list []request) {
	secret, other := signature.GenerateSecret(), signature.GenerateSecret()
	const body = `{"type":"invoice.paid","data":{"customer":"Zoë 🎺 \ud800","n":1.10}}`
	add := func(about string, good bool, at time.Time, sent string, with ...signature.Secret) map[string]string {
		h := http.Header{}
		g.scheme.SetHeaders(h, "0199f3c2-7a10-7b55-8c3e-1f2a3b4c5d6e", at, []byte(body), with...)
		r := request{About: about, Good: good, Headers: make(map[string]string), Body: base64.StdEncoding.EncodeToString([]byte(sent)), Secret: secret.Text()}
		for name, values := range h {
			r.Headers[strings.ToLower(name)] = values[0]
		}
		list = append(list, r)
		return r.Headers
	}
	now := time.Now()
	add("signed", true, now, body, secret)
	add("another body", false, now, body+" ", secret)
	add("another secret", false, now, body, other)
	add("during a rotation, with the older secret", true, now, body, other, secret)
	timed := g.scheme.Algorithm == signature.Standard || g.scheme.Timestamp != nil
	if timed {
		add("during a rotation, with the newer secret", true, now, body, secret, other)
		add("some minutes ago", true, now.Add(-4*time.Minute), body, secret)
		add("too long ago", false, now.Add(-6*time.Minute), body, secret)
		add("too far ahead", false, now.Add(6*time.Minute), body, secret)
	}
	header := strings.ToLower(g.scheme.Header)
	if header == "" {
		header = signature.HeaderSignature
	}
	h := add("a part of the signature", false, now, body, secret)
	h[header] = h[header][:len(h[header])-5]
	h = add("as long as the signature, but not ASCII", false, now, body, secret)
	h[header] = h[header][:len(h[header])-1] + "é"
	h = add("nothing", false, now, body, secret)
	clear(h)
	h = add("an empty signature", false, now, body, secret)
	h[header] = ""
	h = add("another's words", false, now, body, secret)
	h[header] = "v0,v1,, v1=é sha256="
	return list
}

// What each language does with a snippet: reads requests as JSON and prints true or false for each.
var harnesses = map[string]struct{ command, file, after string }{
	"js": {"node", "verify.mjs", `
import { readFileSync } from 'node:fs';
for (const r of JSON.parse(readFileSync(0))) console.log(verify(r.headers, Buffer.from(r.body, 'base64'), r.secret));
`},
	"python": {"python3", "verify.py", `
import base64, json, sys
for r in json.load(sys.stdin):
    print(str(verify(r["headers"], base64.b64decode(r["body"]), r["secret"])).lower())
`},
	"ruby": {"ruby", "verify.rb", `
require 'json'
JSON.parse($stdin.read).each { |r| puts verify(r['headers'], r['body'].unpack1('m'), r['secret']) }
`},
	"php": {"php", "verify.php", `
foreach (json_decode(file_get_contents('php://stdin'), true) as $r) {
    echo json_encode(verify($r['headers'], base64_decode($r['body']), $r['secret'])), "\n";
}
`},
}

func TestTheSnippetsOfTheGuidesVerify(t *testing.T) {
	names := []string{"standard", "hmac", "github", "stripe"}
	if pages, err := filepath.Glob(guides + "*.md"); err != nil || len(pages) != len(names)+1 {
		t.Errorf("there are other pages than those that are tested: %v", pages)
	}
	goProgram := t.TempDir()
	for _, name := range names {
		g := readGuide(t, name)
		for language, harness := range harnesses {
			t.Run(name+"/"+language, func(t *testing.T) {
				if _, err := exec.LookPath(harness.command); err != nil {
					t.Skipf("%s is not on this machine", harness.command)
				}
				file := filepath.Join(t.TempDir(), harness.file)
				write(t, file, g.snippets[language]+"\n"+harness.after)
				judged(t, g.requests(), exec.CommandContext(t.Context(), harness.command, file))
			})
		}
		t.Run(name+"/sh", func(t *testing.T) {
			if _, err := exec.LookPath("openssl"); err != nil {
				t.Skip("openssl is not on this machine")
			}
			for _, r := range g.requests() {
				body, err := base64.StdEncoding.DecodeString(r.Body)
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(t.TempDir(), "body")
				write(t, file, string(body))
				sh := exec.CommandContext(t.Context(), "sh", "-c", g.snippets["sh"])
				sh.Env = append(os.Environ(), "SECRET="+r.Secret, "BODY="+file)
				for name, value := range r.Headers {
					sh.Env = append(sh.Env, strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"="+value)
				}
				out, err := sh.Output()
				if good := err == nil && string(out) == "good\n"; good != r.Good {
					t.Errorf("%s: %v: %s, %v", r.About, good, out, err)
				}
			}
		})
		// All of Go's are one program: building takes longer than anything else here.
		renamed := strings.NewReplacer("func verify(", "func "+name+"(", "var scheme ", "var "+name+"Scheme ", "scheme.Verify", name+"Scheme.Verify")
		write(t, filepath.Join(goProgram, name+".go"), renamed.Replace(g.snippets["go"]))
	}
	write(t, filepath.Join(goProgram, "main.go"), goMain)
	files, err := filepath.Glob(filepath.Join(goProgram, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	built := filepath.Join(goProgram, "verify")
	if out, err := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", built}, files...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range names {
		t.Run(name+"/go", func(t *testing.T) {
			judged(t, readGuide(t, name).requests(), exec.CommandContext(t.Context(), built, name))
		})
	}
}

const goMain = `package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

func main() {
	var requests []struct {
		Headers map[string]string
		Body    []byte
		Secret  string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		panic(err)
	}
	verify := map[string]func(http.Header, []byte, string) bool{"standard": standard, "hmac": hmac, "github": github, "stripe": stripe}[os.Args[1]]
	for _, r := range requests {
		h := http.Header{}
		for name, value := range r.Headers {
			h.Set(name, value)
		}
		fmt.Println(verify(h, r.Body, r.Secret))
	}
}
`

// judged has a program say which of the requests are good.
func judged(t *testing.T, requests []request, program *exec.Cmd) {
	t.Helper()
	given, err := json.Marshal(requests)
	if err != nil {
		t.Fatal(err)
	}
	program.Stdin, program.Stderr = bytes.NewReader(given), t.Output()
	out, err := program.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := strings.Fields(string(out))
	if len(said) != len(requests) {
		t.Fatalf("it says %q", said)
	}
	for i, r := range requests {
		if said[i] != fmt.Sprint(r.Good) {
			t.Errorf("%s: %s", r.About, said[i])
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
