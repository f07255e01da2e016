package retry_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfare-webhooks/fanfare/retry"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s":                    0,
		"500ms":                 500 * time.Millisecond,
		"90s":                   90 * time.Second,
		"007m":                  7 * time.Minute,
		"6h":                    6 * time.Hour,
		"24h":                   24 * time.Hour,
		"1d":                    24 * time.Hour,
		"1m30s":                 90 * time.Second,
		"1d1h1m1s1ms":           25*time.Hour + time.Minute + time.Second + time.Millisecond,
		"1s1ms":                 1001 * time.Millisecond,
		"9223372036854ms":       9223372036854 * time.Millisecond,
		"106751d23h47m16s854ms": 9223372036854 * time.Millisecond,
	} {
		if got, err := retry.ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

func TestParseDurationRefuses(t *testing.T) {
	for _, text := range []string{
		"", "0", "60", "s", "1", "1x", "1us", "1ns", "1w", "1M", "1S", "-1s", "+1s", "1.5h", "1,5h", "1 s", " 1s", "1s ", "1s\n",
		"1s1s", "1s1m", "1ms1s", "1m30", "1e3s", "0x1s", "1_000s", "١s", "1\x00s", "1min",
		"106752d", "106751d24h", "9223372036855ms", "9223372036854775808s", "99999999999999999999999999999s",
	} {
		if got, err := retry.ParseDuration(text); !errors.Is(err, retry.ErrDuration) || got != 0 {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s":    0,
		"1ms":   1999 * time.Microsecond,
		"999ms": 999 * time.Millisecond,
		"1s":    time.Second,
		"90s":   90 * time.Second,
		"1m":    time.Minute,
		"5m":    5 * time.Minute,
		"15m":   15 * time.Minute,
		"1h":    time.Hour,
		"6h":    6 * time.Hour,
		"1d":    24 * time.Hour,
		"36h":   36 * time.Hour,
		"441m":  retry.Default.Total(),
	} {
		if got := retry.FormatDuration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestDurationsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Min(0).Draw(t, "duration"))
		text := retry.FormatDuration(d)
		if got, err := retry.ParseDuration(text); err != nil || got != d.Truncate(time.Millisecond) {
			t.Fatalf("%v became %q became %v, %v", d, text, got, err)
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, text := range []string{"1m30s", "0s", "106751d23h47m16s854ms", "9223372036855ms", "1.5h"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := retry.ParseDuration(text)
		if d < 0 || (err != nil && (d != 0 || !errors.Is(err, retry.ErrDuration))) {
			t.Fatalf("got %v, %v", d, err)
		}
		if again, err := retry.ParseDuration(retry.FormatDuration(d)); err != nil || again != d {
			t.Fatalf("%v became %v, %v", d, again, err)
		}
	})
}
