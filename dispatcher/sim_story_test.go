package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// line is one of the story. It is put in words only for those who read it.
type line struct {
	at     time.Duration
	who    string
	format string
	args   []any
}

func (w *world) say(who, format string, args ...any) {
	w.story = append(w.story, line{w.sinceBegin(), who, format, args})
}

func (w *world) render(format string, args []any) string {
	shown := make([]any, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case uuid.UUID:
			if shown[i] = w.names[a]; shown[i] == "" {
				shown[i] = a
			}
		case time.Time:
			shown[i] = a.Sub(w.begun.Add(w.db.ahead))
		default:
			shown[i] = a
		}
	}
	return fmt.Sprintf(format, shown...)
}

// tell is the end of the story.
func (w *world) tell(lines int) string {
	var b strings.Builder
	for _, l := range w.story[max(len(w.story)-lines, 0):] {
		fmt.Fprintf(&b, "%9.4fs  %-7s %s\n", l.at.Seconds(), l.who, w.render(l.format, l.args))
	}
	return b.String()
}

func (w *world) name(id uuid.UUID, name string) { w.names[id] = name }

func (w *world) nameEvent(id uuid.UUID) { w.name(id, fmt.Sprintf("e%d", len(w.db.events))) }

// reach notes that a life came to where something could go wrong.
func (w *world) reach(what string) { w.reached[what] = true }

// scribe writes what a dispatcher logs into the story.
type scribe struct {
	slog.Handler
	w   *world
	who string
}

func (s *scribe) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (s *scribe) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.say(s.who, "logs: %s", text)
	return nil
}

// nowhere is where metrics go.
type nowhere struct{}

func (nowhere) Register(prometheus.Collector) error  { return nil }
func (nowhere) MustRegister(...prometheus.Collector) {}
func (nowhere) Unregister(prometheus.Collector) bool { return true }
