package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// delivery is the request that a connection brought last, and what checking it needs room for.
type delivery struct {
	*wire
	signed []byte
}

func newDelivery(r io.Reader) *delivery { return &delivery{wire: newWire(r)} }

// check holds a delivery against what was published and who signs it.
func (in *receivers) check(l *ledger, d *delivery, path, body []byte, at time.Time) {
	webhook, err := strconv.Atoi(string(bytes.TrimPrefix(path, []byte("/"))))
	if err != nil || webhook < 0 || webhook >= len(in.secrets) {
		l.surprise(fmt.Sprintf("%s: no webhook has this address", path))
		return
	}
	id := d.field(signature.HeaderID)
	account, group, _ := l.of(webhook)
	data, err := unwrap(body, id, l.types[group], in.accounts[account].Load())
	if err != nil {
		l.surprise(fmt.Sprintf("webhook %d, event %s: %v", webhook, id, err))
		return
	}
	err = in.verify(d, webhook, id, body, at)
	l.arrive(webhook, id, data, at, err)
}

// unwrap is the data of an envelope whose other members are as they must be. Almost always the envelope
// is byte for byte the one that is expected; whether another one means the same is what a parser is for. The
// data itself is the ledger's to judge.
func unwrap(body, id []byte, typ string, account *string) (data []byte, err error) {
	if account == nil {
		return nil, errEarly
	}
	rest := body
	if skip(&rest, `{"id":"`) && skip(&rest, string(id)) &&
		skip(&rest, `","type":"`) && skip(&rest, typ) &&
		skip(&rest, `","timestamp":"`) && skipTime(&rest) &&
		skip(&rest, `","account_id":"`) && skip(&rest, *account) &&
		skip(&rest, `","data":`) && bytes.HasSuffix(rest, []byte("}")) {
		return rest[:len(rest)-1], nil
	}
	return unwrapAny(body, string(id), typ, *account)
}

var errEarly = errors.New("it came before its webhook was made")

// unwrapAny reads an envelope in any form.
func unwrapAny(body []byte, id, typ, account string) (data []byte, err error) {
	var e struct {
		ID        string          `json:"id"`
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		AccountID string          `json:"account_id"`
		Data      json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, fmt.Errorf("the body: %w", err)
	}
	for _, m := range []struct{ name, got, want string }{
		{"id", e.ID, id}, {"type", e.Type, typ}, {"account_id", e.AccountID, account},
	} {
		if m.got != m.want {
			return nil, fmt.Errorf("its %s is %q, not %q", m.name, m.got, m.want)
		}
	}
	if e.Timestamp.IsZero() {
		return nil, errors.New("it has no timestamp")
	}
	return e.Data, nil
}

// skip takes text off the front of rest.
func skip(rest *[]byte, text string) bool {
	if len(*rest) < len(text) || string((*rest)[:len(text)]) != text {
		return false
	}
	*rest = (*rest)[len(text):]
	return true
}

// skipTime takes a time in UTC with milliseconds off the front of rest.
func skipTime(rest *[]byte) bool {
	const form = "0000-00-00T00:00:00.000Z"
	b := *rest
	if len(b) < len(form) {
		return false
	}
	for i := range len(form) {
		if form[i] == '0' && (b[i] < '0' || b[i] > '9') || form[i] != '0' && b[i] != form[i] {
			return false
		}
	}
	*rest = b[len(form):]
	return true
}

var errNoSecret = errors.New("no secret is known")

// verify checks a signature. Almost always the headers are byte for byte those that the one secret gives;
// whether others are good as well, signature.Verify decides.
func (in *receivers) verify(d *delivery, webhook int, id, body []byte, at time.Time) error {
	secret := in.secrets[webhook].Load()
	if secret == nil {
		return errNoSecret
	}
	stamp, signed := d.field(signature.HeaderTimestamp), d.field(signature.HeaderSignature)
	if sent, ok := seconds(stamp); ok && at.Sub(sent).Abs() < signature.Tolerance {
		d.signed = signature.AppendSign(d.signed[:0], string(id), sent, body, *secret)
		if bytes.Equal(d.signed, signed) && bytes.IndexByte(id, '.') < 0 {
			return nil
		}
	}
	h := make(http.Header)
	h.Set(signature.HeaderID, string(id))
	h.Set(signature.HeaderTimestamp, string(stamp))
	h.Set(signature.HeaderSignature, string(signed))
	return signature.Verify(h, body, at, *secret)
}

// seconds reads a Unix time as AppendSign writes it.
func seconds(text []byte) (t time.Time, ok bool) {
	if len(text) == 0 || len(text) > 12 || text[0] == '0' {
		return t, false
	}
	var n int64
	for _, c := range text {
		if c < '0' || c > '9' {
			return t, false
		}
		n = n*10 + int64(c-'0')
	}
	return time.Unix(n, 0), true
}
