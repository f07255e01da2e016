package egress

import (
	"bytes"
	"io"
	"math"
)

const (
	maxChunkLine = 2 << 10 // also of a trailer; less than a reader's buffer
	maxChunkSide = 8 << 10
)

// readBody reads the body up to its end or its bound. What lies beyond the bound is not read: the
// connection ends there.
func (r *reader) readBody() error {
	var err error
	switch {
	case r.head.status == 204 || r.head.status == 304:
		return nil
	case r.head.chunked:
		err = r.readChunks()
	case r.head.length >= 0:
		err = r.readData(r.head.length)
	default:
		r.head.closes = true
		if err = r.readData(math.MaxInt64); err == io.EOF { // bare: not within a record of TLS
			return nil
		}
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// readData reads n bytes of the body, or as many as there is room for.
func (r *reader) readData(n int64) error {
	for n > 0 {
		if r.bodyRoom == 0 {
			r.head.closes = true
			return nil
		}
		if r.at == r.end {
			if err := r.fill(); err != nil {
				return err
			}
		}
		b := r.buf[r.at:r.end]
		b = b[:min(int64(len(b)), n, int64(r.bodyRoom))]
		r.at += len(b)
		r.bodyRoom -= len(b)
		n -= int64(len(b))
		if b = b[:min(len(b), r.keep)]; len(b) > 0 {
			r.kept = append(r.kept, b...)
			r.keep -= len(b)
		}
	}
	return nil
}

// readChunks reads a chunked body with its trailers (RFC 9112, section 7.1).
func (r *reader) readChunks() error {
	for {
		line, err := r.readChunkLine()
		if err != nil {
			return err
		}
		size, side, ok := parseChunkSize(line)
		if !ok {
			return malformed("chunk size", line)
		}
		if err := r.spend(side); err != nil {
			return err
		}
		if size == 0 {
			return r.readTrailers()
		}
		if err := r.readData(size); err != nil || r.bodyRoom == 0 {
			r.head.closes = true
			return err
		}
		if line, err = r.readChunkLine(); err != nil {
			return err
		}
		if len(line) > 0 {
			return malformed("end of a chunk", line)
		}
	}
}

// readTrailers reads the lines after the last chunk. They say nothing that we keep.
func (r *reader) readTrailers() error {
	for {
		line, err := r.readChunkLine()
		if err != nil || len(line) == 0 {
			return err
		}
		if _, _, ok := parseField(line); !ok {
			return malformed("trailer", line)
		}
		if err := r.spend(len(line)); err != nil {
			return err
		}
	}
}

// spend counts n bytes that are neither data nor needed.
func (r *reader) spend(n int) error {
	if r.sideRoom -= n; r.sideRoom < 0 {
		return protocolFault("the response's chunk extensions and trailers are too long")
	}
	return nil
}

// readChunkLine reads a line that ends with CR LF; here a bare LF does not end one. The bytes are the
// caller's until more is read.
func (r *reader) readChunkLine() ([]byte, error) {
	for {
		b := r.buf[r.at:r.end]
		if lf := bytes.IndexByte(b, '\n'); lf >= 0 && lf <= maxChunkLine {
			r.at += lf + 1
			if cr := bytes.IndexByte(b[:lf], '\r'); cr < 0 || cr != lf-1 {
				return nil, malformed("line of a chunked body", b[:lf])
			}
			return b[:lf-1], nil
		}
		if len(b) > maxChunkLine {
			return nil, protocolFault("a line of the chunked response is too long")
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// parseChunkSize reads up to 16 hexadecimal digits, and says how many bytes of an extension follow.
func parseChunkSize(line []byte) (size int64, side int, ok bool) {
	digits := 0
	for ; digits < len(line); digits++ {
		d := hexDigit(line[digits])
		if d < 0 {
			break
		}
		if digits == 16 || size > math.MaxInt64>>4 {
			return 0, 0, false
		}
		size = size<<4 | int64(d)
	}
	rest := line[digits:]
	extends := len(rest) == 0 || rest[0] == ';' || len(bytes.TrimRight(rest, " \t")) == 0
	return size, len(rest), digits > 0 && extends
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
