package store

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

func catalogOf(types ...fanfare.EventType) []fanfare.EventType { return types }

func TestACatalogAddsChangesAndArchivesWhatIsItsOwn(t *testing.T) {
	s := adminStore(t)
	newEventTypes(t, s, "by.api", "taken.over")
	_, err := s.ApplyCatalog(t.Context(), fanfare.OriginPlatform, catalogOf(fanfare.EventType{Name: "platforms.own"}))
	must(t, err)
	first := catalogOf(fanfare.EventType{Name: "stays"}, fanfare.EventType{Name: "goes"}, fanfare.EventType{Name: "changes", Group: "a"})
	steps, err := s.ApplyCatalog(t.Context(), fanfare.OriginFile, first)
	must(t, err)
	if diff := cmp.Diff([]CatalogStep{
		{Name: "changes", Action: CatalogAdd}, {Name: "goes", Action: CatalogAdd}, {Name: "stays", Action: CatalogAdd},
	}, steps); diff != "" {
		t.Error(diff)
	}

	second := catalogOf(
		fanfare.EventType{Name: "stays"}, fanfare.EventType{Name: "new"}, fanfare.EventType{Name: "taken.over"},
		fanfare.EventType{Name: "changes", Group: "b", Description: "d", Modifiers: []byte(`{}`), Samples: []byte(`[{}]`)},
	)
	want := []CatalogStep{
		{Name: "changes", Action: CatalogChange, Members: []string{"description", "group", "modifiers", "samples"}},
		{Name: "goes", Action: CatalogArchive, Members: []string{"archived"}},
		{Name: "new", Action: CatalogAdd},
		{Name: "stays", Action: CatalogNoAction},
		{Name: "taken.over", Action: CatalogChange, Members: []string{"origin"}},
	}
	before := headVersion(t, s)
	planned, err := s.PlanCatalog(t.Context(), fanfare.OriginFile, second)
	must(t, err)
	if v := headVersion(t, s); v != before {
		t.Error("a plan changed something")
	}
	steps, err = s.ApplyCatalog(t.Context(), fanfare.OriginFile, second)
	must(t, err)
	for _, got := range [][]CatalogStep{planned, steps} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	var raised []string
	for _, name := range []string{"changes", "goes", "new", "taken.over"} {
		raised = append(raised, "event_type "+uuid.Nil.String()+" "+uuid.Nil.String()+" "+name)
	}
	if diff := cmp.Diff(raised, loggedChanges(t, s, before)); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]fanfare.EventType{
		"by.api":        {},
		"platforms.own": {Origin: fanfare.OriginPlatform},
		"goes":          {Origin: fanfare.OriginFile, Archived: true},
		"taken.over":    {Origin: fanfare.OriginFile},
		"changes":       {Origin: fanfare.OriginFile, Group: "b"},
	} {
		got, err := s.EventType(t.Context(), name)
		must(t, err)
		if got.Archived != want.Archived || got.Origin != want.Origin || got.Group != want.Group {
			t.Errorf("%s is %+v", name, got)
		}
	}

	before = headVersion(t, s)
	steps, err = s.ApplyCatalog(t.Context(), fanfare.OriginFile, second)
	must(t, err)
	for _, step := range steps {
		if step.Action != CatalogNoAction || step.Name == "goes" {
			t.Errorf("applied again: %+v", step)
		}
	}
	if v := headVersion(t, s); v != before {
		t.Errorf("applied again, it moved the registry from %d to %d", before, v)
	}
}

func TestWhatTheAPIWritesIsNotTheFilesAnyMore(t *testing.T) {
	s := adminStore(t)
	catalog := catalogOf(fanfare.EventType{Name: "a.b", Group: "file"})
	_, err := s.ApplyCatalog(t.Context(), fanfare.OriginFile, catalog)
	must(t, err)
	_, err = s.PutEventType(t.Context(), &fanfare.EventType{Name: "a.b", Group: "api"})
	must(t, err)

	steps, err := s.ApplyCatalog(t.Context(), fanfare.OriginFile, nil)
	must(t, err)
	if len(steps) != 0 {
		t.Errorf("a file without it touches it: %+v", steps)
	}
	steps, err = s.ApplyCatalog(t.Context(), fanfare.OriginFile, catalog)
	must(t, err)
	if diff := cmp.Diff([]CatalogStep{{"a.b", CatalogChange, []string{"group", "origin"}}}, steps); diff != "" {
		t.Error(diff)
	}
}

func TestThePlatformsEventTypesAreNobodyElses(t *testing.T) {
	s := adminStore(t)
	newEventTypes(t, s, "by.api")
	own := catalogOf(fanfare.EventType{Name: "p.one"}, fanfare.EventType{Name: "p.two"})
	_, err := s.ApplyCatalog(t.Context(), fanfare.OriginPlatform, own)
	must(t, err)
	before := headVersion(t, s)

	_, err = s.PutEventType(t.Context(), &fanfare.EventType{Name: "p.one"})
	wantErr(t, err, ErrPlatformType)
	wantErr(t, s.DeleteEventType(t.Context(), "p.one"), ErrPlatformType)
	for _, c := range []struct {
		origin  fanfare.Origin
		catalog []fanfare.EventType
		names   []string
	}{
		{fanfare.OriginFile, catalogOf(fanfare.EventType{Name: "p.two"}, fanfare.EventType{Name: "p.one"}, fanfare.EventType{Name: "fine"}), []string{"p.one", "p.two"}},
		{fanfare.OriginPlatform, catalogOf(fanfare.EventType{Name: "by.api"}), []string{"by.api"}},
	} {
		_, planned := s.PlanCatalog(t.Context(), c.origin, c.catalog)
		_, applied := s.ApplyCatalog(t.Context(), c.origin, c.catalog)
		for _, err := range []error{planned, applied} {
			var notMine *NotMineError
			if !errors.As(err, &notMine) || !cmp.Equal(notMine.Names, c.names) {
				t.Errorf("%s: the error is %v", c.origin, err)
			}
		}
	}

	if v := headVersion(t, s); v != before {
		t.Error("something was stored")
	}
	if _, err := s.EventType(t.Context(), "p.one"); err != nil {
		t.Error(err)
	}
}

func TestManyMayApplyACatalogAtOnce(t *testing.T) {
	s := adminStore(t)
	catalog := catalogOf(fanfare.EventType{Name: "a"}, fanfare.EventType{Name: "b"}, fanfare.EventType{Name: "c"})
	before := headVersion(t, s)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range cap(errs) {
		wg.Go(func() {
			_, err := s.ApplyCatalog(context.WithoutCancel(t.Context()), fanfare.OriginFile, catalog)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		must(t, err)
	}
	if n := len(loggedChanges(t, s, before)); n != len(catalog) {
		t.Errorf("%d changes for %d event types", n, len(catalog))
	}
}
