package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strconv"
)

// wire reads the HTTP/1.1 messages of one connection, one after the other. It is for a peer that is
// being measured on the same CPUs: it allocates nothing once its buffers have grown, and knows of HTTP
// what a publish call and a delivery need.
type wire struct {
	in     *bufio.Reader
	head   []byte // start line and fields, as they came
	fields []field
	start  []byte // the start line
	body   []byte
}

// field is a header field of the message that was read last.
type field struct{ name, value []byte }

const (
	maxHead   = 16 << 10
	maxAnswer = 1 << 20 // of a publish call
)

var (
	errMessage = errors.New("not an HTTP/1.1 message that is understood here")
	errLength  = errors.New("a body that is longer than expected")
)

func newWire(r io.Reader) *wire { return &wire{in: bufio.NewReader(r)} }

// request reads a request with a body of at most limit bytes. What it yields is valid until the next one
// is read. The error is io.EOF if the connection ended before it began.
func (w *wire) request(limit int) (path, body []byte, err error) {
	if err := w.readHead(); err != nil {
		return nil, nil, err
	}
	_, rest, _ := bytes.Cut(w.start, []byte(" "))
	path, version, ok := bytes.Cut(rest, []byte(" "))
	if !ok || string(version) != "HTTP/1.1" {
		return nil, nil, errMessage
	}
	err = w.readBody(limit)
	return path, w.body, err
}

// response reads the answer to a request, with a body of at most limit bytes, valid until the next one is
// read. Interim answers are passed over.
func (w *wire) response(limit int) (status int, body []byte, err error) {
	for status < 200 {
		if err := w.readHead(); err != nil {
			return 0, nil, err
		}
		version, rest, _ := bytes.Cut(w.start, []byte(" "))
		code, _, _ := bytes.Cut(rest, []byte(" "))
		status, err = strconv.Atoi(string(code))
		if err != nil || status < 100 || status == 101 || string(version) != "HTTP/1.1" {
			return 0, nil, errMessage
		}
	}
	if status == 204 || status == 304 { // have no body, whatever the fields say
		return status, nil, nil
	}
	if w.field("content-length") == nil && w.field("transfer-encoding") == nil {
		return 0, nil, errMessage // ends with the connection
	}
	err = w.readBody(limit)
	return status, w.body, err
}

// closes reports whether the peer ends the connection after the message.
func (w *wire) closes() bool { return bytes.EqualFold(w.field("connection"), []byte("close")) }

// field is the value of the first field of that name, nil if there is none.
func (w *wire) field(name string) []byte {
	for i := range w.fields {
		if f := &w.fields[i]; len(f.name) == len(name) && bytes.EqualFold(f.name, []byte(name)) {
			return f.value
		}
	}
	return nil
}

// readHead reads up to the empty line.
func (w *wire) readHead() error {
	w.head, w.fields = w.head[:0], w.fields[:0]
	for {
		line, err := w.in.ReadSlice('\n')
		w.head = append(w.head, line...)
		switch {
		case err != nil && errors.Is(err, io.EOF) && len(w.head) > 0:
			return io.ErrUnexpectedEOF
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		case len(w.head) > maxHead:
			return errLength
		case err == nil && len(bytes.TrimRight(line, "\r\n")) == 0:
			return w.split()
		}
	}
}

// split finds the fields of a whole head.
func (w *wire) split() error {
	start, rest, _ := bytes.Cut(w.head, []byte("\n"))
	w.start = bytes.TrimSuffix(start, []byte("\r"))
	for {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
			return nil
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return errMessage
		}
		w.fields = append(w.fields, field{name, bytes.Trim(value, " \t")})
	}
}

// readBody reads the body of the message whose head was read.
func (w *wire) readBody(limit int) error {
	w.body = w.body[:0]
	if coding := w.field("transfer-encoding"); coding != nil {
		if !bytes.EqualFold(coding, []byte("chunked")) {
			return errMessage
		}
		return w.readChunks(limit)
	}
	length := w.field("content-length")
	if length == nil {
		return nil
	}
	n, err := strconv.ParseUint(string(length), 10, 63)
	if err != nil {
		return errMessage
	}
	if n > uint64(limit) {
		return errLength
	}
	if n > uint64(cap(w.body)) {
		w.body = make([]byte, n)
	}
	w.body = w.body[:n]
	if _, err := io.ReadFull(w.in, w.body); err != nil {
		return fmt.Errorf("read a body: %w", noEOF(err))
	}
	return nil
}

func (w *wire) readChunks(limit int) error {
	body, err := io.ReadAll(io.LimitReader(httputil.NewChunkedReader(w.in), int64(limit)+1))
	if err != nil {
		return fmt.Errorf("read a body: %w", noEOF(err))
	}
	if len(body) > limit {
		return errLength
	}
	w.body = body
	for { // the trailer, if there is one, ends with an empty line
		line, err := w.in.ReadSlice('\n')
		if err != nil {
			return noEOF(err)
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return nil
		}
	}
}

// noEOF has the end of a connection in the middle of a message not look like one between two.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
