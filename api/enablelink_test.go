package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/api"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// broken is a webhook that the service has disabled, and the path of the link of the mail about that.
func (w *world) broken(account string) (hook *fanfare.Webhook, link string) {
	w.t.Helper()
	id := uuid.MustParse(w.webhook(account, platformKey))
	if _, err := w.store.DisableWebhook(w.t.Context(), id, "https://example.com/hooks", fanfare.Disabled{By: fanfare.DisabledByGone, Reason: "410"}); err != nil {
		w.t.Fatal(err)
	}
	hook, err := w.store.Webhook(w.t.Context(), uuid.MustParse(account), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return hook, strings.TrimPrefix(api.EnableLink(w.options.Keyring, "https://hooks.example.com/")(hook), "https://hooks.example.com")
}

func (w *world) page(method, path string) (int, string) {
	w.t.Helper()
	rec := httptest.NewRecorder()
	api.EnablePage(w.store, w.options.Keyring, w.options.Log).ServeHTTP(rec, httptest.NewRequest(method, path, nil))
	return rec.Code, rec.Body.String()
}

func (w *world) enabled(hook *fanfare.Webhook) bool {
	w.t.Helper()
	got, err := w.store.Webhook(w.t.Context(), hook.AccountID, hook.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return got.Disabled == nil
}

func TestALinkEnablesAWebhookOnceAndOnlyWhenItsButtonIsPressed(t *testing.T) {
	w := newWorld(t)
	hook, link := w.broken(w.account(""))
	for _, method := range []string{"GET", "HEAD", "GET"} {
		if status, body := w.page(method, link); status != http.StatusOK || !strings.Contains(body, "Enable the webhook?") || w.enabled(hook) {
			t.Fatalf("%s: %d %s", method, status, body)
		}
	}
	if status, body := w.page("DELETE", link); status != http.StatusMethodNotAllowed || w.enabled(hook) {
		t.Errorf("%d %s", status, body)
	}
	if status, body := w.page("POST", link); status != http.StatusOK || !strings.Contains(body, "is enabled") || !w.enabled(hook) {
		t.Errorf("%d %s", status, body)
	}
	w.call("POST", "/v1/accounts/"+hook.AccountID.String()+"/webhooks/"+hook.ID.String()+"/disable", platformKey, nil).want(200)
	for _, method := range []string{"GET", "POST"} {
		if status, _ := w.page(method, link); status != http.StatusGone || w.enabled(hook) {
			t.Errorf("%s again: %d", method, status)
		}
	}
}

func TestALinkIsGoodForOneDisablingOnly(t *testing.T) {
	w := newWorld(t)
	hook, first := w.broken(w.account(""))
	if status, _ := w.page("POST", first); status != http.StatusOK {
		t.Fatal(status)
	}
	if _, err := w.store.DisableWebhook(t.Context(), hook.ID, hook.URL, fanfare.Disabled{By: fanfare.DisabledByGone, Reason: "410"}); err != nil {
		t.Fatal(err)
	}
	if status, _ := w.page("POST", first); status != http.StatusGone || w.enabled(hook) {
		t.Errorf("the old link: %d", status)
	}
}

func TestLinksThatAreNot(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	hook, link := w.broken(account)
	other, otherLink := w.broken(account)
	flipped := []byte(link)
	flipped[len(flipped)-3] ^= 1
	ids := len(api.EnablePath) + 42 // the two ids, but for their last bits
	for name, path := range map[string]string{
		"nothing":          api.EnablePath,
		"no base64":        api.EnablePath + "..%2f",
		"cut":              link[:len(link)-4],
		"changed":          string(flipped),
		"of another":       otherLink[:ids] + link[ids:],
		"longer":           link + "AAAA",
		"what sealed else": api.EnablePath + strings.Repeat("A", 120),
	} {
		for _, method := range []string{"GET", "POST"} {
			if status, body := w.page(method, path); status != http.StatusNotFound || strings.Contains(body, hook.ID.String()) {
				t.Errorf("%s %s: %d", method, name, status)
			}
		}
	}
	if w.enabled(hook) || w.enabled(other) {
		t.Error("a webhook was enabled")
	}
	w.call("DELETE", "/v1/accounts/"+account+"/webhooks/"+hook.ID.String(), platformKey, nil).want(204)
	if status, _ := w.page("POST", link); status != http.StatusNotFound {
		t.Errorf("of a webhook that was deleted: %d", status)
	}
}

func TestALinkIsGoodForSevenDays(t *testing.T) {
	w := newWorld(t)
	hook, _ := w.broken(w.account(""))
	for age, want := range map[time.Duration]int{7*24*time.Hour - time.Minute: http.StatusOK, 7*24*time.Hour + time.Minute: http.StatusGone} {
		link := api.EnableLinkAt(w.options.Keyring, hook, time.Now().Add(-age))
		if status, _ := w.page("GET", link); status != want {
			t.Errorf("after %s: %d, want %d", age, status, want)
		}
	}
}

func TestAMailIsOwedWhenTheServiceDisablesAndWhenThatEnds(t *testing.T) {
	w := newWorld(t)
	_, link := w.broken(w.account(""))
	w.page("POST", link)
	rows, err := w.store.ClaimOutbox(t.Context(), store.OutboxMail, 10, time.Minute)
	if err != nil || len(rows) != 2 || rows[0].Name != string(store.MailDisabled) || rows[1].Name != string(store.MailEnabled) {
		t.Errorf("%v, %v", rows, err)
	}
}
