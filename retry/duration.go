package retry

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"time"
)

// ErrDuration says that a text is no duration.
var ErrDuration = errors.New("is not a duration such as 500ms, 90s, 5m, 6h or 1d")

const day = 24 * time.Hour

type unit struct {
	name string
	size time.Duration
}

// units are the units of a duration, each a multiple of the next.
var units = []unit{
	{"d", day},
	{"h", time.Hour},
	{"m", time.Minute},
	{"s", time.Second},
	{"ms", time.Millisecond},
}

// ParseDuration reads a duration as the API writes it: whole numbers with the units d, h, m, s and ms,
// each at most once and the larger before the smaller ("90s", "1h30m"). There is no sign, fraction or
// space, and a day has 24 hours. The error is [ErrDuration], also for what [time.Duration] cannot hold.
func ParseDuration(text string) (time.Duration, error) {
	if text == "" {
		return 0, ErrDuration
	}
	var total time.Duration
	left := units
	for text != "" {
		digits := span(text, func(c byte) bool { return '0' <= c && c <= '9' })
		letters := span(text[digits:], func(c byte) bool { return 'a' <= c && c <= 'z' })
		number, err := strconv.ParseInt(text[:digits], 10, 64)
		if err != nil {
			return 0, ErrDuration
		}
		name := text[digits : digits+letters]
		for len(left) > 0 && left[0].name != name {
			left = left[1:]
		}
		if len(left) == 0 || number > int64(math.MaxInt64-total)/int64(left[0].size) {
			return 0, ErrDuration
		}
		total += time.Duration(number) * left[0].size
		left, text = left[1:], text[digits+letters:]
	}
	return total, nil
}

// FormatDuration writes a duration as a whole number of the largest unit that needs no fraction: 90
// seconds are "90s", 24 hours are "1d", nothing is "0s". Less than a millisecond is cut off. The
// duration is not negative; [ParseDuration] reads the text back.
func FormatDuration(d time.Duration) string {
	d = d.Truncate(time.Millisecond)
	if d == 0 {
		return "0s"
	}
	unit := units[slices.IndexFunc(units, func(u unit) bool { return d%u.size == 0 })]
	return strconv.FormatInt(int64(d/unit.size), 10) + unit.name
}

// Duration is one that is written as text as [FormatDuration] has it.
type Duration time.Duration

// MarshalText is for [encoding/json] and its like.
func (d Duration) MarshalText() ([]byte, error) { return []byte(FormatDuration(time.Duration(d))), nil }

// UnmarshalText reads what [ParseDuration] does.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// span is how many of the first bytes of text are in a class.
func span(text string, in func(byte) bool) int {
	n := 0
	for n < len(text) && in(text[n]) {
		n++
	}
	return n
}
