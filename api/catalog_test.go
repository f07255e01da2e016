package api_test

import (
	"testing"

	"github.com/fanfare-webhooks/fanfare"
)

func TestAPlatformsEventTypeIsNotTheAPIs(t *testing.T) {
	w := newWorld(t)
	for origin, name := range map[fanfare.Origin]string{fanfare.OriginPlatform: "its.own", fanfare.OriginFile: "from.file"} {
		if _, err := w.store.ApplyCatalog(t.Context(), origin, []fanfare.EventType{{Name: name}}); err != nil {
			t.Fatal(err)
		}
		if got := w.call("GET", "/v1/event-types/"+name, "", nil).want(200).str("origin"); got != string(origin) {
			t.Errorf("%s: the origin is %q", name, got)
		}
	}
	for _, method := range []string{"PUT", "DELETE"} {
		if got := w.call(method, "/v1/event-types/its.own", platformKey, nil).want(409).str("code"); got != "platform_event_type" {
			t.Errorf("%s: %s", method, got)
		}
	}
	if got := w.call("PUT", "/v1/event-types/from.file", platformKey, nil).want(200).str("origin"); got != "api" {
		t.Errorf("after a PUT the origin is %q", got)
	}
	w.call("DELETE", "/v1/event-types/from.file", platformKey, nil).want(204)
}
