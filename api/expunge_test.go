package api_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

func TestAnExpungedEventKeepsItsFactsAndLosesItsData(t *testing.T) {
	w := newWorld(t)
	parent := w.account("")
	account := w.account(parent)
	key := w.key(account)
	hook, above := id(t, w.webhook(account, platformKey)), id(t, w.webhook(parent, platformKey))
	e, other := w.event(account, "call.ended", hook, above), w.event(account, "call.ended", hook)
	for _, event := range []uuid.UUID{e, other} {
		w.attempt(account, hook, event, fanfare.Exhausted, 1)
	}
	w.attempt(parent, above, e, fanfare.Exhausted, 1)
	base := "/v1/accounts/" + account
	path := base + "/events/" + e.String()

	// The account of a webhook that got it does not decide.
	w.call("POST", "/v1/accounts/"+parent+"/events/"+e.String()+"/expunge", platformKey, nil).want(404)
	first := w.call("POST", path+"/expunge", key, nil).want(200)
	if string(first.body) != string(w.call("GET", path, key, nil).want(200).body) || first.str("expunged_at") == "" ||
		!strings.Contains(string(first.body), `"data":{},`) || first.str("type") != "call.ended" {
		t.Errorf("%s", first.body)
	}
	if again := w.call("POST", path+"/expunge", key, nil).want(200); string(again.body) != string(first.body) {
		t.Errorf("first %s, then %s", first.body, again.body)
	}
	for _, list := range []*reply{
		w.call("GET", base+"/events?data=true", key, nil),
		w.follow(base+"/events/sync", key, "").reply,
		w.follow("/v1/accounts/"+parent+"/events/sync?descendants=true", platformKey, "").reply,
	} {
		if n := strings.Count(string(list.want(200).body), `"data":{"n": 1}`); n != 1 || strings.Count(string(list.body), `"expunged_at":null`) != 1 {
			t.Errorf("%s", list.body)
		}
	}
	for path, bodies := range map[string]int{
		path + "/attempts": 0,
		"/v1/accounts/" + parent + "/events/" + e.String() + "/attempts": 0,
		base + "/events/" + other.String() + "/attempts":                 1,
	} {
		r := w.call("GET", path, platformKey, nil).want(200)
		if strings.Count(string(r.body), `"response_body":"body"`) != bodies || r.get("data.0.status") == nil || r.get("data.1") != nil {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}
