package api_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestARepeatIsAnsweredAsItWasWhateverHappenedSince(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	body := `{"url":"https://example.com","event_types":["t"]}`
	first := w.call("POST", path, platformKey, body, "Idempotency-Key", "k").want(201)

	w.call("DELETE", path+"/"+first.str("id"), platformKey, nil).want(204)
	w.call("DELETE", "/v1/event-types/t", platformKey, nil).want(204)
	if err := w.registry.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}

	again := w.call("POST", path, platformKey, body, "Idempotency-Key", "k").want(201)
	if string(again.body) != string(first.body) {
		t.Errorf("first %s\nthen %s", first.body, again.body)
	}
}

func TestACallThatFailedKeepsNothing(t *testing.T) {
	w := newWorld(t)
	w.call("POST", "/v1/accounts", platformKey, `{"name":""}`, "Idempotency-Key", "k").want(422)
	w.call("POST", "/v1/accounts", platformKey, `{"name":"n"}`, "Idempotency-Key", "k").want(201)
}

func TestOneOfManyEqualCallsDoesTheWork(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	bodies := make(chan string, 8)
	var calls sync.WaitGroup
	for range cap(bodies) {
		calls.Go(func() {
			r := w.call("POST", path, platformKey, `{"url":"https://example.com","event_types":["*"]}`, "Idempotency-Key", "k")
			if r.status != 201 {
				t.Errorf("%d %s", r.status, r.body)
			}
			bodies <- string(r.body)
		})
	}
	calls.Wait()
	first := <-bodies
	for range cap(bodies) - 1 {
		if other := <-bodies; other != first {
			t.Errorf("one was answered %s\nanother %s", first, other)
		}
	}
	if got := w.ids(path, platformKey, "id", 10); len(got) != 1 {
		t.Errorf("%d webhooks", len(got))
	}
}

func TestWhatIsKeptHoldsNoSecretInTheClear(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	hook := w.call("POST", "/v1/accounts/"+account+"/webhooks", platformKey, `{"url":"https://example.com","event_types":["*"]}`, "Idempotency-Key", "a").want(201)
	key := w.call("POST", "/v1/accounts/"+account+"/keys", platformKey, `{}`, "Idempotency-Key", "b").want(201)
	conn, err := pgx.Connect(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var dump []byte
	for _, table := range []string{"api_replies", "webhook_secrets", "webhooks", "api_keys", "registry_changes"} {
		rows, err := conn.Query(t.Context(), `SELECT * FROM `+table)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for rows.Next() {
			n++
			for _, raw := range rows.RawValues() {
				dump = append(dump, raw...)
			}
		}
		if rows.Err() != nil || n == 0 {
			t.Fatalf("%s: %d rows, %v", table, n, rows.Err())
		}
	}
	for _, secret := range []string{hook.str("secret"), key.str("key")} {
		if strings.Contains(string(dump), secret) || strings.Contains(string(dump), secret[6:]) {
			t.Errorf("%s is in the database", secret)
		}
	}
}
