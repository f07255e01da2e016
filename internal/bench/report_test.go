package bench

import (
	"bytes"
	"strings"
	"testing"
)

func TestTheTextSaysWhatTheReportHolds(t *testing.T) {
	d := newDesk()
	d.acknowledge(0, []byte("a"))
	d.acknowledge(1, []byte("b"))
	r := &Report{
		Ended: Quiet, RawBefore: 2000, RawAfter: 1000, Backlog: Backlog{Deliveries: int(d.outstanding())},
		Config:         Summary{Mode: "closed", Publishers: 7, Batch: 9, Webhooks: 2, Accounts: 3, WebhooksTotal: 12, Size: 100},
		Bad:            &Bad{Hanging: 1, HangSeconds: 30, Held: 5, CutOff: 4, Failing: 2, FailWith: Fail500, Failed: 6},
		Process:        &Process{ServerCPU: 2.5, PostgresCPU: new(1.25), PeakRSS: 3 << 20, PeakSince: PeakOfNode},
		SQLPerDelivery: new(0.125), LoaderCPU: new(0.5),
	}
	d.note("webhook 1: something")
	d.report(r, 0, d.since())
	if r.Backlog.Share != 1 || r.RawPerSecond != 1500 {
		t.Errorf("got %+v, %v raw", r.Backlog, r.RawPerSecond)
	}
	var out bytes.Buffer
	if err := r.Text(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"7 publishers", "batches of 9", "2 for each event, of 12 in 3 accounts; 2 reached", "4 deliveries when the load ended, 100.00 %",
		"4 lost", "webhook 1: something", "1 webhooks, 30 s each: 5 requests, 0 answered in the end, 4 cut off",
		"2 webhooks answer 500: 6 requests", "2.50 s server", "1.25 s Postgres", "0.50 s", "0.125 a delivery",
		"3.0 MiB server, since the node started", "1500/s here (2000 before, 1000 after)",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}
