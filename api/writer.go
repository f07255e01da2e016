package api

import (
	"encoding/hex"
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// writer makes the JSON of an answer, member by member. Unlike an encoder of structs it keeps the bytes
// of what is JSON already (data, metadata, samples) exactly. The zero value is ready.
//
// Names are constants that need no escaping.
type writer struct{ b []byte }

// separate puts a comma behind the member or element before.
func (w *writer) separate() {
	if n := len(w.b); n > 0 && w.b[n-1] != '{' && w.b[n-1] != '[' {
		w.b = append(w.b, ',')
	}
}

// name begins a member; its value must follow.
func (w *writer) name(name string) {
	w.separate()
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

// open begins an object: the answer itself, or an element of a list.
func (w *writer) open() {
	w.separate()
	w.b = append(w.b, '{')
}

func (w *writer) close() { w.b = append(w.b, '}') }

// object begins a member that is an object; close ends it.
func (w *writer) object(name string) {
	w.name(name)
	w.b = append(w.b, '{')
}

// list begins a member that is an array; endList ends it.
func (w *writer) list(name string) {
	w.name(name)
	w.b = append(w.b, '[')
}

func (w *writer) endList() { w.b = append(w.b, ']') }

func (w *writer) quoted(text string) {
	// What is not UTF-8 becomes U+FFFD, which is all that the error would say.
	w.b, _ = jsontext.AppendQuote(w.b, text)
}

func (w *writer) text(name, value string) {
	w.name(name)
	w.quoted(value)
}

// optional is null for "".
func (w *writer) optional(name, value string) {
	if value == "" {
		w.null(name)
		return
	}
	w.text(name, value)
}

func (w *writer) texts(name string, values []string) {
	w.list(name)
	for _, v := range values {
		w.separate()
		w.quoted(v)
	}
	w.endList()
}

func (w *writer) null(name string) {
	w.name(name)
	w.b = append(w.b, "null"...)
}

func (w *writer) boolean(name string, value bool) {
	w.name(name)
	w.b = strconv.AppendBool(w.b, value)
}

func (w *writer) integer(name string, value int64) {
	w.name(name)
	w.b = strconv.AppendInt(w.b, value, 10)
}

// ratio is a number with at most four decimals.
func (w *writer) ratio(name string, value float64) {
	w.name(name)
	w.b = strconv.AppendFloat(w.b, math.Round(value*10_000)/10_000, 'f', -1, 64)
}

// milliseconds is a number with at most three decimals.
func (w *writer) milliseconds(name string, d time.Duration) {
	w.name(name)
	w.b = strconv.AppendFloat(w.b, float64(d.Microseconds())/1000, 'f', -1, 64)
}

func (w *writer) id(name string, id uuid.UUID) {
	w.name(name)
	w.b = append(w.b, '"')
	w.b = appendID(w.b, id)
	w.b = append(w.b, '"')
}

func appendID(b []byte, id uuid.UUID) []byte {
	b = hex.AppendEncode(b, id[:4])
	for _, part := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		b = hex.AppendEncode(append(b, '-'), part)
	}
	return b
}

// time is null for the zero time.
func (w *writer) time(name string, t time.Time) {
	if t.IsZero() {
		w.null(name)
		return
	}
	w.name(name)
	w.b = append(w.b, '"')
	w.b = t.UTC().AppendFormat(w.b, "2006-01-02T15:04:05.000Z")
	w.b = append(w.b, '"')
}

// raw is a value that is JSON already; nothing stands for empty.
func (w *writer) raw(name string, value []byte, empty string) {
	w.name(name)
	if len(value) == 0 {
		w.b = append(w.b, empty...)
		return
	}
	w.b = append(w.b, value...)
}

func (w *writer) optionalID(name string, id uuid.NullUUID) {
	if !id.Valid {
		w.null(name)
		return
	}
	w.id(name, id.UUID)
}
