package filter

import "unicode/utf8"

// Walking JSON that was checked already, by whoever published it. Nothing is checked again that does
// not have to be; of text that is not JSON it is only certain that the walk ends within it.

// isSpace and isEnd mark what separates tokens, and what ends a number or a word.
var isSpace, isEnd = func() (space, end [256]bool) {
	for _, c := range " \t\r\n" {
		space[c], end[c] = true, true
	}
	for _, c := range `,:]}"[{` {
		end[c] = true
	}
	return space, end
}()

// isMark marks the bytes that matter to who only looks for the end of an object or array.
var isMark = func() (t [256]bool) {
	for _, c := range `"[]{}` {
		t[c] = true
	}
	return t
}()

func skipSpace(b []byte, i int) int {
	for i < len(b) && isSpace[b[i]] {
		i++
	}
	return i
}

// skipString goes behind the text that begins at b[i] and says whether it has escapes. The end is beyond
// b if the text has none.
func skipString(b []byte, i int) (end int, escaped bool) {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1, escaped
		case '\\':
			escaped = true
			i++
		}
	}
	return len(b) + 1, escaped
}

// skipValue goes behind the value that begins at b[i]; if it has no end, to the end of b.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return len(b)
	}
	switch b[i] {
	case '"':
		i, _ = skipString(b, i)
		return min(i, len(b))
	case '{', '[':
		return skipNested(b, i+1)
	default:
		for i++; i < len(b) && !isEnd[b[i]]; i++ {
		}
		return i
	}
}

// skipNested goes behind the object or array in which b[i] is.
func skipNested(b []byte, i int) int {
	for depth := 1; i < len(b); i++ {
		if !isMark[b[i]] {
			continue
		}
		switch b[i] {
		case '"':
			i, _ = skipString(b, i)
			i--
		case '{', '[':
			depth++
		default:
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(b)
}

// depth is how many objects and arrays stand inside each other.
func depth(b []byte) (deepest int) {
	d := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i, _ = skipString(b, i)
			i--
		case '{', '[':
			d++
			deepest = max(deepest, d)
		case '}', ']':
			d--
		}
	}
	return deepest
}

// eachMember goes through an object of checked JSON. A name is not sound if half of a surrogate pair is
// in it.
func eachMember(object []byte, do func(name string, sound bool, value []byte)) {
	for i := skipSpace(object, 1); i < len(object) && object[i] == '"'; {
		end, _ := skipString(object, i)
		if end > len(object) {
			return
		}
		name, sound := appendText(nil, object[i+1:end-1])
		i = skipSpace(object, skipSpace(object, end)+1)
		end = skipValue(object, i)
		if end <= i {
			return
		}
		do(string(name), sound, object[i:end:end])
		i = skipSpace(object, skipSpace(object, end)+1)
	}
}

// eachElement goes through an array of checked JSON.
func eachElement(array []byte, do func(i int, value []byte)) {
	n := 0
	for i := skipSpace(array, 1); i < len(array) && array[i] != ']'; n++ {
		end := skipValue(array, i)
		do(n, array[i:end:end])
		i = skipSpace(array, skipSpace(array, end)+1)
	}
}

// appendText reads what stands between the quotes of a text. It is not sound if an escape stands for no
// character, half of a surrogate pair: U+FFFD takes its place.
func appendText(dst, inner []byte) (text []byte, sound bool) {
	sound = true
	for i := 0; i < len(inner); {
		if inner[i] != '\\' {
			start := i
			for i++; i < len(inner) && inner[i] != '\\'; i++ {
			}
			dst = append(dst, inner[start:i]...)
			continue
		}
		if i += 2; i > len(inner) {
			return dst, false
		}
		switch c := inner[i-1]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(inner, i)
			i = min(i+4, len(inner))
			if r >= 0xd800 && r < 0xdc00 && i+1 < len(inner) && inner[i] == '\\' && inner[i+1] == 'u' {
				if low := hex4(inner, i+2); low >= 0xdc00 && low < 0xe000 {
					r = 0x10000 + (r-0xd800)<<10 + (low - 0xdc00)
					i = min(i+6, len(inner))
				}
			}
			if r < 0 || r >= 0xd800 && r < 0xe000 {
				r, sound = utf8.RuneError, false
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, c)
		}
	}
	return dst, sound
}

// hex4 reads four hexadecimal digits; -1 if they are not there.
func hex4(b []byte, i int) (r rune) {
	if len(b)-i < 4 {
		return -1
	}
	for _, c := range b[i : i+4] {
		d := hexDigit[c]
		if d < 0 {
			return -1
		}
		r = r<<4 | rune(d)
	}
	return r
}

var hexDigit = func() (t [256]int8) {
	for c := range t {
		t[c] = -1
	}
	for d := range 16 {
		t["0123456789abcdef"[d]], t["0123456789ABCDEF"[d]] = int8(d), int8(d)
	}
	return t
}()
