package api

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/dispatcher"
	"github.com/fanfare-webhooks/fanfare/internal/schema"
	"github.com/fanfare-webhooks/fanfare/registry"
)

const (
	maxBatch      = 1000 // events
	detailData    = "must be an object"
	detailType    = "must be lower-case letters, digits and _, in parts separated by dots, at most 128 characters"
	detailKey     = "must be 1 to 255 printable ASCII characters"
	detailTime    = "is not an RFC 3339 time"
	detailAccount = "is not an account within reach of the key"
)

// item is an event of a request, read but not yet held against accounts and the catalog.
type item struct {
	dispatcher.Publication
	at      string // pointer
	account string // as it was given; "": the path's

	targets    []oneOff // its one-off destinations; nil: none
	rawTargets []byte   // as they were given

	wrong   []schema.Fault      // with the data
	wrongBy *registry.EventType // the entry of the catalog that says so; nil: none does
}

// publish takes one event. This is the hot path: one pass over the body, which finds data where it lies.
func (s *Server) publish(c *call) (answer, error) {
	if err := s.publisher.Admit(c.r.Context(), c.account); err != nil {
		return answer{}, err
	}
	body, err := readBody(c.r, maxPublishBody)
	if err != nil {
		return answer{}, err
	}
	c.body = body
	if !utf8.Valid(body) {
		return answer{}, errMalformed
	}
	start := skipSpace(body, 0)
	if start == len(body) || body[start] != '{' {
		if _, err := onlyValue(body, maxDepth); err == errSyntax && len(body) > 0 {
			return answer{}, errMalformed
		}
		c.faults.at("", codeWrongType, "must be an object")
		return answer{}, c.faults.err()
	}
	items := [1]item{{Publication: dispatcher.Publication{AccountID: c.account}}}
	it := &items[0]
	end, err := it.read(body, start, &c.faults)
	if err != nil {
		return answer{}, err
	}
	if skipSpace(body, end) != len(body) {
		return answer{}, errMalformed
	}
	if key := c.idempotencyKey(); key != "" {
		if it.IdempotencyKey != "" && it.IdempotencyKey != key {
			c.faults.at("/idempotency_key", codeInvalidValue, "differs from the header Idempotency-Key")
		}
		it.IdempotencyKey = key
	}
	if err := s.verify(c, items[:]); err != nil {
		return answer{}, err
	}
	if it.IdempotencyKey != "" {
		it.RequestHash = it.hash()
	}
	receipts, err := s.publisher.Publish(c.r.Context(), []dispatcher.Publication{it.Publication})
	if err != nil {
		return answer{}, err
	}
	w := writer{b: make([]byte, 0, 192)}
	writeReceipt(&w, &it.Publication, &receipts[0])
	return answer{status: http.StatusAccepted, body: w.b, replayed: receipts[0].Replayed}, nil
}

// publishBatch takes many events, all or none.
func (s *Server) publishBatch(c *call) (answer, error) {
	err := s.publisher.Admit(c.r.Context(), c.key.AccountID.UUID) // nil for a platform key
	if err != nil {
		return answer{}, err
	}
	if c.body, err = readBody(c.r, maxBatchBody); err != nil {
		return answer{}, err
	}
	c.onceKey = c.idempotencyKey()
	items, err := readBatch(c)
	if err != nil {
		return answer{}, err
	}
	if c.onceKey != "" && len(c.faults.list) == 0 {
		if a, found, err := s.first(c); found || err != nil {
			return a, err
		}
	}
	if err := s.verify(c, items); err != nil {
		return answer{}, err
	}
	batch := sha256.Sum256(c.body)
	publications := make([]dispatcher.Publication, len(items))
	for i := range items {
		p := &items[i].Publication
		switch {
		case p.IdempotencyKey != "":
			p.RequestHash = items[i].hash()
		case c.onceKey != "":
			// The kept answer alone would not do: a crash between the commit and keeping it must not make
			// the events twice.
			p.IdempotencyKey = c.onceKey + "#" + strconv.Itoa(i)
			p.RequestHash = batch
		}
		publications[i] = *p
	}
	receipts, err := s.publisher.Publish(c.r.Context(), publications)
	var refused *dispatcher.RefusedError
	if errors.As(err, &refused) && refused.Index < len(items) {
		return answer{}, problemOfRefusal(refused, items[refused.Index].at)
	}
	if err != nil {
		return answer{}, err
	}
	replayed := true
	w := writer{b: make([]byte, 0, 160*len(receipts)+16)}
	w.open()
	w.list("data")
	for i := range receipts {
		writeReceipt(&w, &publications[i], &receipts[i])
		replayed = replayed && receipts[i].Replayed
	}
	w.endList()
	w.close()
	a := answer{status: http.StatusAccepted, body: w.b, replayed: replayed}
	if kept, err := s.keep(c, a); err == nil {
		kept.replayed = kept.replayed || replayed
		return kept, nil
	}
	return a, nil // the events are durable, and their keys find them
}

func writeReceipt(w *writer, p *dispatcher.Publication, r *dispatcher.Receipt) {
	w.open()
	w.id("id", r.ID)
	w.text("type", p.Type)
	w.time("created_at", fanfare.EventTime(r.ID))
	w.integer("matched", int64(r.Matched))
	w.close()
}

// readBatch reads {"events": […]}.
func readBatch(c *call) ([]item, error) {
	raw, err := onlyValue(c.body, maxDepth+3) // the body, the list, the event, its data
	switch {
	case err == errDepth:
		return nil, refuse("", codeTooDeep, fmt.Sprintf("the data of an event is nested more than %d levels deep", maxDepth))
	case err != nil && len(c.body) > 0:
		return nil, errMalformed
	case err != nil:
		raw = []byte("{}")
	}
	var items []item
	var failed error
	value{raw: raw, f: &c.faults}.object(field{name: "events", required: true, take: func(v value) {
		v.list(len(v.raw), func(v value) {
			it := item{at: v.at}
			if len(items) == maxBatch {
				failed = errBatchTooLarge
			}
			if failed != nil {
				return
			}
			if v.raw[0] != '{' {
				v.wrong("an object")
			} else if _, err := it.read(v.raw, 0, &c.faults); err != nil {
				failed = err
			}
			items = append(items, it)
		})
		if len(items) == 0 && v.raw[0] == '[' {
			v.fault(codeTooFew, "must have at least one event")
		}
	}})
	return items, failed
}

// The members of a publication, as bits.
const (
	seenType = 1 << iota
	seenData
	seenKey
	seenTime
	seenAccount
	seenDestinations
)

var memberNames = map[int]string{
	seenType: "/type", seenData: "/data", seenKey: "/idempotency_key", seenTime: "/occurred_at", seenAccount: "/account_id",
	seenDestinations: "/destinations",
}

// read reads an event from the object that begins at b[i], and gives where it ends. What is wrong with
// it goes to f; the error is a problem that ends the call.
func (it *item) read(b []byte, i int, f *faults) (end int, err error) {
	inBatch := it.at != ""
	m := members{b: b, i: i, depth: maxDepth + 1}
	var seen int
	for {
		quoted, raw, ok := m.next()
		if !ok {
			break
		}
		var bit int
		switch string(quoted) {
		case `"type"`:
			bit = seenType
		case `"data"`:
			bit = seenData
		case `"idempotency_key"`:
			bit = seenKey
		case `"occurred_at"`:
			bit = seenTime
		case `"account_id"`:
			bit = seenAccount
		case `"destinations"`:
			bit = seenDestinations
		default: // unknown, or written with escapes
			bit = memberBit(quoted)
		}
		if bit == 0 || bit == seenAccount && !inBatch {
			name, _ := unquote(quoted)
			f.at(it.at+"/"+escapePointer(name), codeUnknownField, "is not a member of this object")
			continue
		}
		if seen&bit != 0 {
			name, _ := unquote(quoted)
			f.at(it.at+"/"+name, codeDuplicateField, "stands here twice")
			continue
		}
		seen |= bit
		if err := it.take(bit, raw, f); err != nil {
			return 0, err
		}
	}
	switch {
	case m.err == errDepth:
		name, _ := unquote(m.failed)
		f.at(it.at+"/"+escapePointer(name), codeTooDeep, fmt.Sprintf("is nested more than %d levels deep", maxDepth))
		return 0, f.err()
	case m.err != nil:
		return 0, errMalformed
	}
	if seen&seenAccount == 0 && inBatch {
		f.at(it.at+"/account_id", codeRequired, "is required")
	}
	if seen&seenType == 0 {
		f.at(it.at+"/type", codeRequired, "is required")
	}
	if seen&seenData == 0 {
		f.at(it.at+"/data", codeRequired, "is required")
	}
	return m.i, nil
}

// memberBit knows a member by its name with escapes; 0: none has it.
func memberBit(quoted []byte) int {
	name, sound := unquote(quoted)
	for bit, known := range memberNames {
		if sound && "/"+name == known {
			return bit
		}
	}
	return 0
}

func (it *item) take(bit int, raw []byte, f *faults) error {
	if bit == seenData {
		if raw[0] != '{' {
			f.at(it.at+"/data", codeWrongType, detailData)
			return nil
		}
		if len(raw) > maxData {
			return errDataTooLarge
		}
		it.Data = raw
		return nil
	}
	if (bit == seenKey || bit == seenTime || bit == seenDestinations) && string(raw) == "null" {
		return nil
	}
	if bit == seenDestinations {
		it.takeDestinations(value{raw: raw, at: it.at + "/destinations", f: f})
		return nil
	}
	if raw[0] != '"' {
		f.at(it.at+memberNames[bit], codeWrongType, "must be a string")
		return nil
	}
	text, sound := unquote(raw)
	switch bit {
	case seenType:
		if it.Type = text; !sound || !validName(text) {
			f.at(it.at+"/type", codeInvalidFormat, detailType)
		} else if fanfare.Operational(text) {
			f.at(it.at+"/type", codePlatformType, "is published by Fanfare itself only")
		}
	case seenKey:
		if it.IdempotencyKey = text; !sound || !validKey(text) {
			f.at(it.at+"/idempotency_key", codeInvalidFormat, detailKey)
		}
	case seenTime:
		var ok bool
		if it.OccurredAt, ok = parseTime(text); !ok {
			f.at(it.at+"/occurred_at", codeInvalidFormat, detailTime)
		}
	case seenAccount:
		if it.account = text; text == "" {
			f.at(it.at+"/account_id", codeUnknownAccount, detailAccount)
		}
	}
	return nil
}

// hash tells a repeat of the event from another one under the same key.
func (it *item) hash() [32]byte {
	h := sha256.New()
	var n [8]byte
	part := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	part([]byte(it.Type))
	part(it.Data)
	if it.OccurredAt.IsZero() {
		part(nil)
	} else {
		part([]byte(it.OccurredAt.Format(time.RFC3339Nano)))
	}
	if it.targets != nil { // or a repeat of what was published before there were any would be another request
		part(it.rawTargets)
	}
	return [32]byte(h.Sum(nil))
}

// verify holds events against accounts and the catalog, and answers every fault of the call. Before it
// says that one is not known, or not as its type wants it, it asks Postgres, once.
func (s *Server) verify(c *call, items []item) error {
	if !s.known(c, items, nil) {
		if err := s.registry.CatchUp(c.r.Context()); err != nil {
			return err
		}
		s.known(c, items, &c.faults)
	}
	s.checkDestinations(items)
	if err := c.faults.err(); err != nil {
		return err
	}
	return s.signDestinations(c, items)
}

// known fills in accounts and reports whether all accounts and types are known and all data is as its type
// wants it. Faults go to f, if it is not nil.
func (s *Server) known(c *call, items []item, f *faults) bool {
	all := true
	snapshot := s.registry.Snapshot()
	budget := schema.NewBudget()
	for i := range items {
		it := &items[i]
		if it.account != "" {
			id, ok := parseID(it.account)
			if it.account == "me" && !isPlatform(c.key) {
				id, ok = c.key.AccountID.UUID, true
			}
			if ok = ok && s.reaches(c.key, id); ok {
				it.AccountID = id
			} else {
				all = false
				if f != nil {
					f.at(it.at+"/account_id", codeUnknownAccount, detailAccount)
				}
			}
		}
		if !validName(it.Type) {
			continue
		}
		t := snapshot.EventType(it.Type)
		switch {
		case t == nil:
			all = false
			if f != nil {
				f.at(it.at+"/type", codeUnknownType, "is not in the catalog")
			}
			continue
		case t == it.CheckedBy || it.Data == nil:
			continue
		}
		if t != it.wrongBy { // it may have been checked before Postgres was asked
			it.wrong = t.Check(it.Data, budget)
		}
		if len(it.wrong) == 0 {
			it.CheckedBy, it.wrongBy = t, nil
			continue
		}
		it.wrongBy, all = t, false
		if f != nil && !fanfare.Operational(it.Type) { // that is refused whatever its data is
			dataFaults(f, it.at, it.wrong)
		}
	}
	return all
}

// dataFaults adds what is wrong with the data of the event at a pointer.
func dataFaults(f *faults, at string, wrong []schema.Fault) {
	for _, w := range wrong {
		f.at(at+"/data"+w.Pointer, code(w.Code), w.Detail)
	}
}
