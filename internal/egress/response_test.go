package egress

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fanfare-webhooks/fanfare"
)

// reading is what a reader made of bytes.
type reading struct {
	reader
	res Result
	err error
}

func readFrom(src io.Reader) *reading {
	got := &reading{reader: newReader(src, make([]byte, readBuffer))}
	got.err = got.response(&got.res)
	var f *failure
	if got.err != nil && !errors.As(got.err, &f) && !errors.Is(got.err, io.EOF) && !errors.Is(got.err, io.ErrUnexpectedEOF) {
		panic(got.err)
	}
	return got
}

func TestResponses(t *testing.T) {
	const ok, chunked = "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	long := strings.Repeat("x", maxBodyRead)
	for name, tc := range map[string]struct {
		text     string
		status   int
		body     string
		reusable bool
		fault    string // part of its detail; "EOF": the connection's end
	}{
		"plain":                  {ok + "Content-Length: 2\r\n\r\nhi", 200, "hi", true, ""},
		"without a reason":       {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, "", true, ""},
		"an empty reason":        {"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, "", true, ""},
		"bare LF":                {"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", 200, "hi", true, ""},
		"HTTP/1.0":               {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi", 200, "hi", false, ""},
		"HTTP/1.2":               {"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", true, ""},
		"HTTP/2":                 {"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 0, "", false, "malformed HTTP response"},
		"HTTP/1.10":              {"HTTP/1.10 200 OK\r\n\r\n", 0, "", false, "malformed HTTP response"},
		"lower case":             {"http/1.1 200 OK\r\n\r\n", 0, "", false, "malformed HTTP response"},
		"an empty line first":    {"\r\n" + ok + "\r\n", 0, "", false, "malformed HTTP response"},
		"two digits":             {"HTTP/1.1 20 OK\r\n\r\n", 0, "", false, "malformed HTTP response"},
		"four digits":            {"HTTP/1.1 2000 OK\r\n\r\n", 0, "", false, "malformed HTTP response"},
		"a signed status":        {"HTTP/1.1 +20 OK\r\n\r\n", 0, "", false, "malformed HTTP response"},
		"a tab in it":            {"HTTP/1.1 200\tOK\r\n\r\n", 0, "", false, "malformed HTTP response"},
		"Connection: close":      {ok + "Content-Length: 0\r\nConnection: x, CLOSE\r\n\r\n", 200, "", false, ""},
		"a second Connection":    {ok + "Connection: keep-alive\r\nContent-Length: 0\r\nconnection:\tclose \r\n\r\n", 200, "", false, ""},
		"almost close":           {ok + "Content-Length: 0\r\nConnection: closed, close2\r\n\r\n", 200, "", true, ""},
		"more than announced":    {ok + "Content-Length: 2\r\n\r\nhi!", 200, "hi", false, ""},
		"204":                    {"HTTP/1.1 204 No\r\n\r\n", 204, "", true, ""},
		"304 with a length":      {"HTTP/1.1 304 No\r\nContent-Length: 100\r\n\r\n", 304, "", true, ""},
		"204 with a body":        {"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nhi", 204, "", false, ""},
		"up to the end":          {ok + "\r\nhi", 200, "hi", false, ""},
		"1xx":                    {"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 199 x\r\nA: b\r\n\r\n" + ok + "Content-Length: 1\r\n\r\n!", 200, "!", true, ""},
		"101":                    {"HTTP/1.1 101 x\r\n\r\n", 101, "", true, "status 101"},
		"below 100":              {"HTTP/1.1 099 x\r\n\r\n", 99, "", true, "status 099"},
		"folded":                 {ok + "X-A: b\r\n\t c\r\n d\r\nContent-Length: 0\r\n\r\n", 200, "", true, ""},
		"folded Content-Length":  {ok + "Content-Length:\r\n 2\r\n\r\nhi", 200, "hi", true, ""},
		"folded at once":         {ok + " X-A: b\r\n\r\n", 0, "", false, "malformed header line"},
		"no colon":               {ok + "abc\r\n\r\n", 0, "", false, "malformed header line"},
		"no name":                {ok + ": abc\r\n\r\n", 0, "", false, "malformed header line"},
		"space before the colon": {ok + "Content-Length : 2\r\n\r\nhi", 0, "", false, "malformed header line"},
		"a name in UTF-8":        {ok + "X-\u00c4: 2\r\n\r\nhi", 0, "", false, "malformed header line"},
		"a name that is no text": {ok + "X-\xff\x00: 2\r\n\r\nhi", 0, "", false, "malformed header line"},
		"NUL in a value":         {ok + "X-A: \x00\r\n\r\nhi", 0, "", false, "malformed header line"},
		"CR in a value":          {ok + "X-A: b\rX-C: d\r\n\r\nhi", 0, "", false, "malformed header line"},

		"the same length twice": {ok + "Content-Length: 2\r\ncontent-length: 2\r\n\r\nhi", 200, "hi", true, ""},
		"two lengths":           {ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", 0, "", false, "two different"},
		"one length, two ways":  {ok + "Content-Length: 2\r\nContent-Length: 02\r\n\r\nhi", 0, "", false, "two different"},
		"a list of lengths":     {ok + "Content-Length: 2, 2\r\n\r\nhi", 0, "", false, "malformed Content-Length"},
		"+1":                    {ok + "Content-Length: +1\r\n\r\nhi", 0, "", false, "malformed Content-Length"},
		"-1":                    {ok + "Content-Length: -1\r\n\r\nhi", 0, "", false, "malformed Content-Length"},
		"0x1":                   {ok + "Content-Length: 0x1\r\n\r\nhi", 0, "", false, "malformed Content-Length"},
		"1_0":                   {ok + "Content-Length: 1_0\r\n\r\nhi", 0, "", false, "malformed Content-Length"},
		"no number":             {ok + "Content-Length:\r\n\r\nhi", 0, "", false, "malformed Content-Length"},
		"2^63":                  {ok + "Content-Length: 9223372036854775808\r\n\r\nhi", 0, "", false, "malformed Content-Length"},
		"2^64+2":                {ok + "Content-Length: 18446744073709551618\r\n\r\nhi", 0, "", false, "malformed Content-Length"},
		"2^63-1":                {ok + "Content-Length: 9223372036854775807\r\n\r\nhi", 200, "hi", false, "EOF"},

		"chunks":                  {chunked + "2\r\nhi\r\n01;a=b\r\n!\r\n0\r\n\r\n", 200, "hi!", true, ""},
		"a trailer":               {chunked + "2\r\nhi\r\n0\r\nX-A: b\r\nContent-Length: 7\r\n\r\n", 200, "hi", true, ""},
		"a malformed trailer":     {chunked + "2\r\nhi\r\n0\r\nX A: b\r\n\r\n", 200, "hi", false, "malformed trailer"},
		"hexadecimal":             {chunked + "A\r\n0123456789\r\nb \t\r\n0123456789a\r\n000\r\n\r\n", 200, "01234567890123456789a", true, ""},
		"more after the chunks":   {chunked + "2\r\nhi\r\n0\r\n\r\nmore", 200, "hi", false, ""},
		"chunked and a length":    {ok + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", 0, "", false, "both"},
		"a length and chunked":    {ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", false, "both"},
		"chunked twice":           {ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", false, "malformed Transfer-Encoding"},
		"gzip, chunked":           {ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 0, "", false, "malformed Transfer-Encoding"},
		"identity":                {ok + "Transfer-Encoding: identity\r\n\r\nhi", 0, "", false, "malformed Transfer-Encoding"},
		"chunked in HTTP/1.0":     {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", false, "malformed Transfer-Encoding"},
		"no size":                 {chunked + ";a\r\n\r\n", 200, "", false, "malformed chunk size"},
		"a negative size":         {chunked + "-1\r\n\r\n", 200, "", false, "malformed chunk size"},
		"a size of 2^64":          {chunked + "10000000000000000\r\n", 200, "", false, "malformed chunk size"},
		"a size of 2^63":          {chunked + "8000000000000000\r\n", 200, "", false, "malformed chunk size"},
		"a size of 2^63-1":        {chunked + "7fffffffffffffff\r\nhi", 200, "hi", false, "EOF"},
		"17 digits":               {chunked + "00000000000000002\r\nhi\r\n0\r\n\r\n", 200, "", false, "malformed chunk size"},
		"more than its size":      {chunked + "2\r\nhi!\r\n0\r\n\r\n", 200, "hi", false, "malformed"},
		"a bare LF in chunks":     {chunked + "2\nhi\r\n0\r\n\r\n", 200, "", false, "malformed line"},
		"CR in an extension":      {chunked + "2;a\rb\r\nhi\r\n0\r\n\r\n", 200, "", false, "malformed line"},
		"a long extension":        {chunked + "2;" + strings.Repeat("a", maxChunkLine) + "\r\nhi\r\n0\r\n\r\n", 200, "", false, "too long"},
		"many long extensions":    {chunked + strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\n!\r\n", 10) + "0\r\n\r\n", 200, "!!!!!!!!", false, "too long"},
		"many trailers":           {chunked + "0\r\n" + strings.Repeat("A: "+strings.Repeat("a", 1000)+"\r\n", 10) + "\r\n", 200, "", false, "too long"},
		"ends within the trailer": {chunked + "0\r\nA: b\r\n", 200, "", false, "EOF"},
		"ends within the size":    {chunked + "2", 200, "", false, "EOF"},
		"ends within a chunk":     {chunked + "5\r\nhi", 200, "hi", false, "EOF"},
		"ends within the body":    {ok + "Content-Length: 3\r\n\r\nhi", 200, "hi", false, "EOF"},
		"ends within the header":  {ok + "Content-Length: 3\r\n", 0, "", false, "EOF"},
		"nothing":                 {"", 0, "", false, "EOF"},

		"64 KiB":             {ok + "Content-Length: 65536\r\n\r\n" + long, 200, long[:keptSuccess], true, ""},
		"a byte more":        {ok + "Content-Length: 65537\r\n\r\n" + long + "!", 200, long[:keptSuccess], false, ""},
		"64 KiB of heads":    {ok + "X-A: " + strings.Repeat("b", maxHeaderRead-len(ok)-28) + "\r\nContent-Length: 0\r\n\r\n", 200, "", true, ""},
		"a byte more header": {ok + "X-A: " + strings.Repeat("b", maxHeaderRead-len(ok)-27) + "\r\nContent-Length: 0\r\n\r\n", 0, "", false, "headers exceeded"},
		"in two heads":       {"HTTP/1.1 103 x\r\nX-A: " + strings.Repeat("b", 40<<10) + "\r\n\r\n" + ok + "X-A: " + strings.Repeat("b", 30<<10) + "\r\n\r\n", 0, "", false, "headers exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			for how, src := range map[string]io.Reader{
				"at once": strings.NewReader(tc.text), "byte by byte": iotest.OneByteReader(strings.NewReader(tc.text)),
			} {
				got := readFrom(src)
				switch f := (*failure)(nil); {
				case got.err == nil && tc.fault == "":
				case errors.As(got.err, &f) && tc.fault != "" && strings.Contains(f.detail, tc.fault) && f.code == fanfare.ErrProtocol:
				case tc.fault == "EOF" && f == nil && got.err != nil:
				default:
					t.Errorf("%s: error %v, want %q", how, got.err, tc.fault)
				}
				if got.res.Status != tc.status || string(got.res.Body) != tc.body {
					t.Errorf("%s: status %d, body %q", how, got.res.Status, got.res.Body)
				}
				if got.err == nil && how == "at once" && got.reusable() != tc.reusable {
					t.Errorf("%s: reusable %v", how, got.reusable())
				}
				if len(got.res.Header) > maxHeaderKept || len(got.buf) > maxHeaderRead {
					t.Errorf("%s: %d bytes of header, %d of buffer", how, len(got.res.Header), len(got.buf))
				}
			}
		})
	}
}

func TestFoldedLinesBecomeOne(t *testing.T) {
	got := readFrom(strings.NewReader("HTTP/1.1 200 OK\r\nx-A:\r\n b\r\n\t c \r\nContent-Length: 5\r\n\r\n"))
	if line, _, _ := strings.Cut(string(got.res.Header), "\r\n"); strings.Join(strings.Fields(line), " ") != "x-A: b c" {
		t.Errorf("header %q, error %v", got.res.Header, got.err)
	}
}

// sameText disregards how much space there is where a line was folded.
func sameText(a, b string) bool {
	return strings.Join(strings.Fields(a), " ") == strings.Join(strings.Fields(b), " ")
}

// FuzzResponse holds the reader against net/http: what it accepts, net/http accepts and reads alike.
//
// It is stricter on purpose, so that the reverse does not hold: other versions than HTTP/1.x, a signed
// status, spaces in a name, Transfer-Encoding beside Content-Length or in HTTP/1.0, chunk sizes of 2^63 and
// more, longer extensions and trailers. And net/http refuses a Trailer header that names certain fields,
// which we do not read, and makes a Cache-Control of a Pragma.
func FuzzResponse(f *testing.F) {
	const ok, chunked = "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, seed := range []string{
		okAnswer, ok + "\r\nabc", ok + "Content-Length: 3\r\n\r\nabcHTTP/1.1", "HTTP/1.0 404\n\n", "HTTP/1.1 100 C\r\n\r\n" + okAnswer,
		chunked + "5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", chunked + "FFFFFFFFFFFFFFFF\r\n", chunked + "5\nhello\r\n", chunked + "0\r\n\r\n",
		ok + "X-A: b\r\n c\r\n\td\r\nContent-Length: 0\r\n\r\n", ok + "Content-Length: +1\r\n\r\na", ok + "Content-Length: 1\r\nContent-Length: 01\r\n\r\na",
		ok + "Connection: a, close\r\nRetry-After: 9\r\nRetry-After: 8\r\n\r\n", "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		ok + "A:\x00\r\n\r\n", ok + "A :b\r\n\r\n", "HTTP/1.1  299  \x1b\r\nPragma: no-cache\r\n\r\n", ok + "Trailer: Content-Length\r\n\r\n", "HTTP/1.1 101 x\r\n\r\n", "HTTP/1.1 200 \nRetry-After:0\n \n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		whole := readFrom(bytes.NewReader(data))
		single := readFrom(iotest.OneByteReader(bytes.NewReader(data)))
		if (whole.err == nil) != (single.err == nil) || whole.res.Status != single.res.Status ||
			!bytes.Equal(whole.res.Header, single.res.Header) || !bytes.Equal(whole.res.Body, single.res.Body) {
			t.Fatalf("%v, but byte by byte %v", whole.err, single.err)
		}
		if whole.err != nil {
			return
		}
		br := bufio.NewReaderSize(bytes.NewReader(data), 1<<20)
		var want *http.Response
		for {
			var err error
			if want, err = http.ReadResponse(br, &http.Request{Method: "POST"}); err != nil {
				if strings.Contains(err.Error(), "bad trailer key") {
					return
				}
				t.Fatalf("net/http: %v", err)
			}
			if want.StatusCode/100 != 1 {
				break
			}
		}
		body, err := io.ReadAll(io.LimitReader(want.Body, maxBodyRead))
		if len(body) < maxBodyRead && err != nil {
			t.Fatalf("net/http on the body: %v", err)
		}
		if want.StatusCode != whole.res.Status || !bytes.HasPrefix(body, whole.res.Body) || len(whole.res.Body) < min(len(body), keptSuccess) {
			t.Fatalf("%d %q, net/http has %d %q", whole.res.Status, whole.res.Body, want.StatusCode, body)
		}
		if whole.reusable() && (want.Close || br.Buffered() > 0) {
			t.Fatalf("net/http would not use the connection again: close %v, %d bytes left", want.Close, br.Buffered())
		}
		if v := want.Header.Get("Retry-After"); len(v) < maxRetryAfter && !sameText(whole.res.RetryAfter, v) {
			t.Fatalf("Retry-After %q, net/http has %q", whole.res.RetryAfter, v)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(whole.res.Header), "\r\n"), "\r\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name = http.CanonicalHeaderKey(name); name {
			case "", "Connection", "Content-Length", "Transfer-Encoding", "Trailer":
				continue
			}
			values := want.Header[name]
			if len(values) == 0 || !sameText(values[0], value) {
				t.Fatalf("%s: %q, net/http has %q", name, value, values)
			}
			want.Header[name] = values[1:]
		}
		if len(whole.res.Header) > maxHeaderKept/2 {
			return
		}
		for name, left := range want.Header {
			switch name {
			case "Cache-Control", "Connection", "Content-Length", "Trailer":
				continue
			}
			if len(left) > 0 {
				t.Fatalf("%s: %q is missing", name, left)
			}
		}
	})
}
