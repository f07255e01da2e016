package api_test

import (
	"sync"
	"testing"
)

func TestAnAccountsOwnSigningSecretsRotate(t *testing.T) {
	w := newWorld(t)
	path := "/v1/accounts/" + w.account("") + "/signing-secrets"

	first := w.call("GET", path, platformKey, nil).want(200)
	next := w.call("POST", path+"/rotate", platformKey, nil).want(200)

	list := w.call("GET", path, platformKey, nil).want(200)
	if first.get("data.1") != nil || list.str("data.0.secret") != next.str("secret") || list.get("data.0.expires_at") != nil ||
		list.str("data.1.secret") != first.str("data.0.secret") || list.get("data.1.expires_at") == nil || list.get("data.2") != nil {
		t.Errorf("first %s, then %s", first.body, list.body)
	}
	last := w.call("POST", path+"/rotate", platformKey, `{"overlap":"0s"}`).want(200)
	if list := w.call("GET", path, platformKey, nil).want(200); list.str("data.0.secret") != last.str("secret") || list.get("data.1") != nil {
		t.Errorf("without overlap %s", list.body)
	}
	if got := w.call("POST", path+"/rotate", platformKey, `{"overlap":"8d"}`).want(422).problems(); got[0] != "/overlap out_of_range" {
		t.Errorf("%q", got)
	}
	for range 20 {
		if next = w.call("POST", path+"/rotate", platformKey, `{"overlap":"7d"}`); next.status != 200 {
			break
		}
	}
	if got := next.want(422).problems(); got[0] != "/overlap too_many" {
		t.Errorf("%q", got)
	}
}

func TestARotationThatIsRepeatedAnswersTheSameSecret(t *testing.T) {
	w := newWorld(t)
	path := "/v1/accounts/" + w.account("") + "/signing-secrets"

	one := w.call("POST", path+"/rotate", platformKey, nil, "Idempotency-Key", "k").want(200)
	two := w.call("POST", path+"/rotate", platformKey, nil, "Idempotency-Key", "k").want(200)

	if one.str("secret") != two.str("secret") || two.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%s, then %s", one.body, two.body)
	}
}

func TestWhoeverAsksFirstGetsTheSameSigningSecret(t *testing.T) {
	w := newWorld(t)
	path := "/v1/accounts/" + w.account("") + "/signing-secrets"
	answers := make([]string, 8)

	var callers sync.WaitGroup
	for i := range answers {
		callers.Go(func() { answers[i] = string(w.call("GET", path, platformKey, nil).body) })
	}
	callers.Wait()

	for _, a := range answers {
		if a != answers[0] {
			t.Fatalf("%s and %s", a, answers[0])
		}
	}
}
