package filter

import (
	"encoding/binary"
	"hash/maphash"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Scalar is a text, a number, a boolean or null. Two are equal as JSON values exactly when they are
// equal as strings: 1.0 and 1 are, and "1" is another. Texts stand in the order of their code points,
// numbers in that of their values.
//
// The first byte is the kind; the rest is the content: of a text its characters, of a number an
// encoding in whose byte order a smaller number comes first.
type Scalar string

// kind is the type of a value.
type kind byte

const (
	kindNone kind = iota // an object or an array
	kindNull
	kindBoolean
	kindNumber
	kindText
)

// maxExponent bounds what follows the e of an operand that is written with one digit before the point,
// up or down.
const maxExponent = 1_000_000_000

// farExponent stands for all beyond it: more than an operand can reach with its digits, so that what
// an event has is still ordered rightly.
const farExponent = 1_000_000_000_000_000

// kindOf says what a value of checked JSON is, by its first byte.
func kindOf(raw []byte) kind {
	switch raw[0] {
	case '{', '[':
		return kindNone
	case '"':
		return kindText
	case 't', 'f':
		return kindBoolean
	case 'n':
		return kindNull
	default:
		return kindNumber
	}
}

// appendContent appends the content of a scalar of checked JSON.
func appendContent(dst, raw []byte) (content []byte, k kind, sound bool) {
	switch k = kindOf(raw); k {
	case kindText:
		dst, sound = appendText(dst, raw[1:max(1, len(raw)-1)])
		return dst, k, sound
	case kindNumber:
		return appendNumber(dst, raw), k, true
	case kindBoolean:
		return append(dst, raw[0]), k, true // f comes before t
	}
	return dst, k, true
}

// scalarOf reads a scalar; it is not ok if it is a text with half of a surrogate pair.
func scalarOf(raw []byte) (s Scalar, ok bool) {
	b, k, ok := appendContent([]byte{0}, raw)
	b[0] = byte(k)
	return Scalar(b), ok
}

// TextScalar is the scalar of a text.
func TextScalar(text string) Scalar { return Scalar(rune(kindText)) + Scalar(text) }

func (s Scalar) kind() kind      { return kind(s[0]) }
func (s Scalar) content() string { return string(s[1:]) }

// numeral is a number taken apart: ±0.DIGITS × 10^exponent, where the digits neither begin nor end with
// a zero. Zero has none.
type numeral struct {
	negative   bool
	whole      []byte // the digits before the point
	fraction   []byte // and behind it
	first, end int    // the digits that count, in whole and fraction together
	exponent   int64
	far        bool // the exponent is beyond ±farExponent, and stands there instead
}

func (n *numeral) zero() bool { return n.first == n.end }

// digit is the i-th of all digits.
func (n *numeral) digit(i int) byte {
	if i < len(n.whole) {
		return n.whole[i]
	}
	return n.fraction[i-len(n.whole)]
}

func parseNumeral(raw []byte) (n numeral) {
	i := 0
	digits := func() []byte {
		start := i
		for i < len(raw) && '0' <= raw[i] && raw[i] <= '9' {
			i++
		}
		return raw[start:i]
	}
	if n.negative = raw[0] == '-'; n.negative {
		i++
	}
	n.whole = digits()
	if i < len(raw) && raw[i] == '.' {
		i++
		n.fraction = digits()
	}
	n.end = len(n.whole) + len(n.fraction)
	for n.first < n.end && n.digit(n.first) == '0' {
		n.first++
	}
	for n.end > n.first && n.digit(n.end-1) == '0' {
		n.end--
	}
	if n.zero() {
		return n
	}
	var exponent int64
	if i < len(raw) && raw[i]|0x20 == 'e' {
		i++
		down := i < len(raw) && raw[i] == '-'
		if i < len(raw) && (raw[i] == '-' || raw[i] == '+') {
			i++
		}
		for _, d := range digits() {
			if exponent = exponent*10 + int64(d-'0'); exponent >= farExponent {
				exponent, n.far = farExponent, true
				break
			}
		}
		if down {
			exponent = -exponent
		}
	}
	n.exponent = exponent + int64(len(n.whole)-n.first)
	return n
}

// The first byte of a number's content.
const (
	below = iota
	zero
	above
)

// maxDigits is more than an operand can have: what an event has beyond them makes it larger, and another.
const maxDigits = maxStored + 1

// appendNumber appends the content of a number. For one below zero everything is inverted, and ends with
// the highest byte, so that more digits come first.
func appendNumber(dst, raw []byte) []byte {
	n := parseNumeral(raw)
	switch {
	case n.zero():
		return append(dst, zero)
	case n.negative:
		dst = append(dst, below)
	default:
		dst = append(dst, above)
	}
	n.end = min(n.end, n.first+maxDigits)
	start := len(dst)
	dst = binary.BigEndian.AppendUint64(dst, uint64(n.exponent)+1<<63)
	if n.first < len(n.whole) {
		dst = append(dst, n.whole[n.first:min(n.end, len(n.whole))]...)
	}
	if n.end > len(n.whole) {
		dst = append(dst, n.fraction[max(n.first-len(n.whole), 0):n.end-len(n.whole)]...)
	}
	if n.negative {
		for i := start; i < len(dst); i++ {
			dst[i] = ^dst[i]
		}
		dst = append(dst, 0xff)
	}
	return dst
}

// appendPlain writes a number in the one form that all its spellings share: without an exponent if that
// is short.
func appendPlain(dst, raw []byte) []byte {
	n := parseNumeral(raw)
	if n.zero() {
		return append(dst, '0')
	}
	if n.negative {
		dst = append(dst, '-')
	}
	digits := make([]byte, 0, n.end-n.first)
	for i := n.first; i < n.end; i++ {
		digits = append(digits, n.digit(i))
	}
	const short = 21
	count := int64(len(digits))
	switch e := n.exponent; {
	case e > 0 && e < short && count <= e:
		dst = append(append(dst, digits...), strings.Repeat("0", int(e-count))...)
	case e > 0 && e < count:
		dst = append(append(append(dst, digits[:e]...), '.'), digits[e:]...)
	case e <= 0 && e > -6:
		dst = append(append(append(dst, "0."...), strings.Repeat("0", int(-e))...), digits...)
	default:
		dst = append(dst, digits[0])
		if count > 1 {
			dst = append(append(dst, '.'), digits[1:]...)
		}
		dst = strconv.AppendInt(append(dst, 'e'), e-1, 10)
	}
	return dst
}

// appendQuoted writes a text with no more escapes than JSON wants.
func appendQuoted(dst []byte, text string) []byte {
	dst = append(dst, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20:
			dst = append(dst, `\u00`...)
			dst = append(dst, "0123456789abcdef"[r>>4], "0123456789abcdef"[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

// seed makes hashes that nobody outside can foresee.
var seed = maphash.MakeSeed()

// Hash of a scalar; [Reader.Hashes] has the same for equal ones of an event. It differs from process to
// process.
func (s Scalar) Hash() uint64 { return maphash.String(seed, string(s[1:])) + uint64(s[0]) }

func hashOf(k kind, content []byte) uint64 { return maphash.Bytes(seed, content) + uint64(k) }
