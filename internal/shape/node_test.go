package shape

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// awkward are the bodies of testdata/awkward.jsonl.
func awkward(t testing.TB) (bodies []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/awkward.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "#") {
			bodies = append(bodies, line)
		}
	}
	return bodies
}

// fuzzedBodies is how many the test makes up: SHAPE_BODIES (make shapes), or as many as an ordinary test may take.
func fuzzedBodies(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("SHAPE_BODIES")); err == nil {
		return n
	} else if os.Getenv("SHAPE_BODIES") != "" {
		t.Fatal(err)
	}
	return 5000
}

func TestECMAScriptIsWhatNodeWrites(t *testing.T) {
	node := startNode(t)
	seed := rand.Uint64()
	g := &generator{rand.New(rand.NewPCG(seed, 1))}
	bodies := awkward(t)
	for range fuzzedBodies(t) {
		bodies = append(bodies, g.body())
	}
	refused := 0
	node.each(t, bodies, func(body, want string, isJSON bool) {
		got, err := ecmascript([]byte(body))
		switch {
		case err != nil && isJSON:
			t.Errorf("refused, but Node.js reads it: %q: %v", body, err)
		case err == nil && !isJSON:
			t.Errorf("written, but Node.js refuses it: %q: %s", body, got)
		case err == nil && string(got) != want:
			t.Errorf("%q:\n%s, and Node.js writes\n%s", body, got, want)
		}
		if !isJSON {
			refused++
		}
	})
	t.Logf("seed %d: %d bodies, of which %d are not JSON", seed, len(bodies), refused)
	if refused == 0 || refused > len(bodies)/2 {
		t.Error("the made-up bodies do not have the mixture that was meant")
	}
}

// nodeProcess is a Node.js process that runs testdata/stringify.mjs.
type nodeProcess struct {
	in  *bufio.Writer
	out *bufio.Reader
}

func startNode(t *testing.T) *nodeProcess {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatalf("this test needs Node.js 20 or newer: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "testdata/stringify.mjs")
	cmd.Stderr = t.Output()
	cmd.WaitDelay = 10 * time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait() // the test's context has ended by now, and the process with it
	})
	return &nodeProcess{bufio.NewWriter(in), bufio.NewReader(out)}
}

// each has do see every body with what Node.js makes of it.
func (p *nodeProcess) each(t *testing.T, bodies []string, do func(body, written string, isJSON bool)) {
	t.Helper()
	const batch = 500 // that Node.js is asked at once
	for len(bodies) > 0 && !t.Failed() {
		now := bodies[:min(batch, len(bodies))]
		bodies = bodies[len(now):]
		sent := make(chan error, 1)
		go func() {
			for _, body := range now {
				p.in.Write(binary.BigEndian.AppendUint32(nil, uint32(len(body))))
				p.in.WriteString(body)
			}
			sent <- p.in.Flush()
		}()
		for _, body := range now {
			var head [4]byte
			if _, err := io.ReadFull(p.out, head[:]); err != nil {
				t.Fatal(err)
			}
			size := binary.BigEndian.Uint32(head[:])
			if size == math.MaxUint32 {
				do(body, "", false)
				continue
			}
			written := make([]byte, size)
			if _, err := io.ReadFull(p.out, written); err != nil {
				t.Fatal(err)
			}
			do(body, string(written), true)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// generator makes up bodies of everything that receivers trip over.
type generator struct{ *rand.Rand }

// body is an object most often, and now and then something that is almost JSON.
func (g *generator) body() string {
	var b strings.Builder
	depth := 1 + g.IntN(5)
	if g.IntN(50) == 0 {
		depth = 20
	}
	g.object(&b, depth)
	if g.IntN(8) > 0 {
		return b.String()
	}
	text := []byte(b.String())
	at := g.IntN(len(text))
	switch g.IntN(3) {
	case 0:
		text = append(text[:at], text[at+1:]...)
	case 1:
		text[at] = pick(g, []byte(`{}[]",:\u0129.eE+-tfn `+"\n"))
	default:
		text = text[:at]
	}
	if !utf8.Valid(text) { // which the API refuses, and Node.js reads as something else
		return `{"a":`
	}
	return string(text)
}

func pick[T any](g *generator, of []T) T { return of[g.IntN(len(of))] }

func (g *generator) space(b *strings.Builder) {
	for g.IntN(6) == 0 {
		b.WriteByte(pick(g, []byte(" \t\r\n")))
	}
}

func (g *generator) value(b *strings.Builder, depth int) {
	g.space(b)
	defer g.space(b)
	n := g.IntN(10)
	switch {
	case n < 2 && depth > 0:
		g.object(b, depth-1)
	case n == 2 && depth > 0:
		b.WriteByte('[')
		g.space(b)
		for i := range g.IntN(6) {
			if i > 0 {
				b.WriteByte(',')
			}
			g.value(b, depth-1)
		}
		b.WriteByte(']')
	case n < 6:
		b.WriteString(g.number())
	case n < 9:
		g.text(b)
	default:
		b.WriteString(pick(g, []string{"true", "false", "null"}))
	}
}

func (g *generator) object(b *strings.Builder, depth int) {
	b.WriteByte('{')
	g.space(b)
	entries := g.IntN(8)
	if g.IntN(20) == 0 {
		entries = g.IntN(60)
	}
	for i := range entries {
		if i > 0 {
			b.WriteByte(',')
			g.space(b)
		}
		g.name(b)
		g.space(b)
		b.WriteByte(':')
		g.value(b, depth)
	}
	b.WriteByte('}')
}

// name is often one that stands there already, or an index, or looks like one.
func (g *generator) name(b *strings.Builder) {
	switch g.IntN(4) {
	case 0:
		g.text(b)
	case 1:
		b.WriteString(strconv.Quote(strconv.Itoa(g.IntN(40))))
	case 2:
		b.WriteString(pick(g, []string{
			`"__proto__"`, `"constructor"`, `"toJSON"`, `"length"`, `""`, `"-0"`, `"01"`, `"1.5"`, `"+1"`, `"1e3"`, `"\u0031"`, `"2147483647"`, `"2147483648"`,
			`"4294967293"`, `"4294967294"`, `"4294967295"`, `"4294967296"`, `"9007199254740991"`, `"99999999999"`, `"00"`, `" 1"`, `"\ud800"`, `"\uD800"`,
		}))
	default:
		b.WriteString(pick(g, []string{`"a"`, `"\u0061"`, `"b"`, `"c"`, `"é"`, `"\u00e9"`, `"e\u0301"`, `"a/b"`, `"a\/b"`}))
	}
}

func (g *generator) text(b *strings.Builder) {
	b.WriteByte('"')
	for range g.IntN(8) {
		switch g.IntN(6) {
		case 0:
			b.WriteString(pick(g, []string{`\"`, `\\`, `\/`, `\b`, `\f`, `\n`, `\r`, `\t`}))
		case 1:
			b.WriteString(`\u`)
			digits := "0123456789abcdefABCDEF"
			for i := range 4 {
				if i < 2 && g.IntN(2) == 0 { // control characters and ASCII
					b.WriteByte('0')
				} else {
					b.WriteByte(digits[g.IntN(len(digits))])
				}
			}
		case 2:
			b.WriteString(pick(g, []string{`\ud83d`, `\uDE00`, `\ud83d\ude00`, `\uD800\uDBFF`, `\udc00\udfff`, `\u2028`, `\u2029`, `\ufeff`, `\uffff`}))
		case 3:
			b.WriteRune(pick(g, []rune{' ', 0x7f, 0x80, 0x9f, 'é', 0x301, 0x2028, 0x2029, 0xfeff, 0xfffd, 0xfffe, 0xffff, '東', '😀', 0x10ffff}))
		default:
			b.WriteByte(pick(g, []byte("abcXYZ019 <>&'/#%+=[]{}:,")))
		}
	}
	b.WriteByte('"')
}

func (g *generator) number() string {
	switch g.IntN(8) {
	case 0:
		return pick(g, []string{
			"0", "-0", "-0.0", "0e5", "-0E-5", "1e400", "-1e400", "1e-400", "-1e-400", "1e308", "1.8e308", "5e-324", "2e-324", "3e-324", "1e21", "1e20", "999999999999999999999",
			"1e-6", "1e-7", "0.000001", "0.0000001", "9007199254740993", "9007199254740992.5", "4503599627370497.5", "1.0", "100", "1.7976931348623158e308", "1.7976931348623159e308",
			"2.2250738585072011e-308", "0.1e1", "1E+2", "1e00002", "123456789012345678901234567890", "0.30000000000000004", "12e-1",
		})
	case 1: // any float64
		for {
			if f := math.Float64frombits(g.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) {
				return strconv.FormatFloat(f, pick(g, []byte("eEfg")), g.IntN(25)-1, 64)
			}
		}
	case 2: // between two of them
		f := math.Float64frombits(g.Uint64()&(1<<62-1) | 1<<61)
		return strconv.FormatFloat(f, 'e', 17+g.IntN(30), 64)
	case 3:
		return strconv.FormatInt(int64(g.Uint64()), 10)
	case 4:
		return strconv.Itoa(g.IntN(2000) - 1000)
	case 5:
		return strconv.FormatFloat(g.NormFloat64()*1e3, 'f', g.IntN(6), 64)
	default:
		var b strings.Builder
		if g.IntN(3) == 0 {
			b.WriteByte('-')
		}
		b.WriteByte('1' + byte(g.IntN(9)))
		digits := func(n int) {
			for range n {
				b.WriteByte('0' + byte(g.IntN(10)))
			}
		}
		digits(g.IntN(24))
		if g.IntN(2) == 0 {
			b.WriteByte('.')
			digits(1 + g.IntN(24))
		}
		if g.IntN(2) == 0 {
			b.WriteByte(pick(g, []byte("eE")))
			b.WriteString(pick(g, []string{"", "+", "-"}))
			digits(1 + g.IntN(3))
		}
		return b.String()
	}
}
