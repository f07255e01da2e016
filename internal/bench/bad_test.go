package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"time"
)

// ask posts to a receiver and is its status.
func ask(ctx context.Context, t *testing.T, client *http.Client, url string) (int, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// await waits until a counter has a value.
func await(t *testing.T, what string, get func() int64, want int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); get() != want; {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d, want %d", what, get(), want)
		}
		pause(t.Context(), time.Millisecond)
	}
}

// badReceivers opens the receivers of c.
func badReceivers(t *testing.T, c Config) (*receivers, *http.Client) {
	t.Helper()
	c.Webhooks = 1
	p := c.plan()
	in, err := receive(&p)
	if err != nil {
		t.Fatal(err)
	}
	client := newHTTP(10)
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := in.close(); err != nil {
			t.Error(err)
		}
	})
	return in, client
}

func TestAnEndpointThatFails(t *testing.T) {
	in, client := badReceivers(t, Config{Failing: 2, FailWith: Fail500})
	for _, url := range in.bad.urls {
		for range 2 {
			if status, err := ask(t.Context(), t, client, url); status != http.StatusInternalServerError || err != nil {
				t.Errorf("got %d, %v", status, err)
			}
		}
	}
	if got, want := *in.bad.report(), (Bad{Failing: 2, FailWith: Fail500, Failed: 4}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAnEndpointThatRefuses(t *testing.T) {
	in, client := badReceivers(t, Config{Failing: 1, FailWith: FailRefuse})
	if status, err := ask(t.Context(), t, client, in.bad.urls[0]); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %d, %v", status, err)
	}
	if got, want := *in.bad.report(), (Bad{Failing: 1, FailWith: FailRefuse}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAnEndpointThatHangs(t *testing.T) {
	t.Run("answers in the end, on a connection that goes on", func(t *testing.T) {
		in, _ := badReceivers(t, Config{Hanging: 1, Hang: time.Millisecond})
		at, err := url.Parse(in.bad.urls[0])
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", at.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		answers := newWire(c)
		for range 2 {
			if _, err := io.WriteString(c, "POST "+at.Path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if status, _, err := answers.response(0); status != http.StatusOK || err != nil {
				t.Errorf("got %d, %v", status, err)
			}
		}
		if got, want := *in.bad.report(), (Bad{Hanging: 1, HangSeconds: 0.001, Held: 2, Released: 2}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})

	t.Run("sees that the node gave up", func(t *testing.T) {
		in, client := badReceivers(t, Config{Hanging: 1, Hang: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { // the request is held before it is given up
			for in.bad.held.Load() == 0 && pause(ctx, time.Millisecond) {
			}
			cancel()
		}()
		if _, err := ask(ctx, t, client, in.bad.urls[0]); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		await(t, "cut off", in.bad.cut.Load, 1)
	})

	t.Run("ends with the receivers", func(t *testing.T) {
		in, client := badReceivers(t, Config{Hanging: 1, Hang: time.Hour})
		asked := make(chan error)
		go func() {
			_, err := ask(t.Context(), t, client, in.bad.urls[0])
			asked <- err
		}()
		await(t, "held", in.bad.held.Load, 1)
		if err := in.close(); err != nil {
			t.Error(err)
		}
		if err := <-asked; err == nil {
			t.Error("it was answered")
		}
		if got, want := *in.bad.report(), (Bad{Hanging: 1, HangSeconds: 3600, Held: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestNoBadEndpointsAreNotReported(t *testing.T) {
	if b := newBad(&Config{}); b.report() != nil {
		t.Errorf("got %+v", b.report())
	}
}
