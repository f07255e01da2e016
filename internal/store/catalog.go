package store

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// CatalogAction is what applying a catalog does to an event type.
type CatalogAction string

// The actions.
const (
	CatalogAdd      CatalogAction = "add"
	CatalogChange   CatalogAction = "change"
	CatalogArchive  CatalogAction = "archive" // it is not in the catalog any more
	CatalogNoAction CatalogAction = "keep"
)

// CatalogStep is one line of the difference between a catalog and what there is.
type CatalogStep struct {
	Name    string
	Action  CatalogAction
	Members []string // that change, by their names in the API and in their order there
}

// NotMineError says that a catalog names event types which belong to others than its origin.
type NotMineError struct {
	Names []string // sorted
}

func (e *NotMineError) Error() string {
	return "these event types are not this catalog's to change: " + strings.Join(e.Names, ", ")
}

// ApplyCatalog makes the event types of one origin be those of a catalog, whole and in one transaction:
// it adds and changes what differs, and archives what the origin brought earlier and the catalog lacks.
// What the API brought is left alone, unless it is in a catalog file: then it is the file's from now on.
// The steps come in the order of names. Applied again, or by several nodes at once, it changes nothing
// more.
//
// The error is a [*NotMineError], and nothing was stored, if a name belongs to another origin. Names must
// be unique; origin is not [fanfare.OriginAPI].
func (s *Store) ApplyCatalog(ctx context.Context, origin fanfare.Origin, catalog []fanfare.EventType) (steps []CatalogStep, err error) {
	err = s.change(ctx, catalogSpec("apply a catalog"), func(ctx context.Context, c *change) error {
		plan, err := planCatalog(ctx, c, origin, catalog)
		if err != nil {
			return err
		}
		steps = plan.steps
		var b pgx.Batch
		for i := range plan.puts {
			b.Queue(putEventTypeSQL, putEventTypeArgs(&plan.puts[i])...)
		}
		for _, step := range steps {
			if step.Action != CatalogNoAction {
				c.raise(ChangeEventType, fanfare.PlatformAccount, uuid.Nil, step.Name)
			}
		}
		return c.SendBatch(ctx, &b).Close()
	})
	return steps, err
}

// PlanCatalog says what [Store.ApplyCatalog] would do now, with the same errors, and does nothing.
func (s *Store) PlanCatalog(ctx context.Context, origin fanfare.Origin, catalog []fanfare.EventType) ([]CatalogStep, error) {
	plan, err := planCatalog(ctx, s.pool, origin, catalog)
	if err != nil {
		return nil, fmt.Errorf("plan a catalog: %w", err)
	}
	return plan.steps, nil
}

// catalogPlan is how a catalog becomes what there is.
type catalogPlan struct {
	steps []CatalogStep
	puts  []fanfare.EventType // all rows that differ, archived ones too
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func planCatalog(ctx context.Context, q querier, origin fanfare.Origin, catalog []fanfare.EventType) (*catalogPlan, error) {
	names := make([]string, len(catalog))
	for i := range catalog {
		names[i] = catalog[i].Name
	}
	rows, err := q.Query(ctx, `SELECT `+eventTypeColumns+` FROM event_types WHERE origin = $1 OR name = ANY ($2)`, origin, names)
	list, err := collect(rows, err, scanEventType)
	if err != nil {
		return nil, err
	}
	had := make(map[string]fanfare.EventType, len(list))
	var plan catalogPlan
	var others []string
	for _, t := range list {
		had[t.Name] = t
		if t.Origin != origin && !(t.Origin == fanfare.OriginAPI && origin == fanfare.OriginFile) {
			others = append(others, t.Name)
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		return nil, &NotMineError{others}
	}
	for _, t := range catalog {
		t.Origin = origin
		before, known := had[t.Name]
		delete(had, t.Name)
		step := CatalogStep{Name: t.Name, Action: CatalogAdd}
		if known {
			step.Action, step.Members = CatalogNoAction, changedMembers(&before, &t)
			if len(step.Members) > 0 {
				step.Action = CatalogChange
			}
		}
		plan.add(step, t)
	}
	for t := range maps.Values(had) {
		if !t.Archived {
			t.Archived = true
			plan.add(CatalogStep{t.Name, CatalogArchive, []string{"archived"}}, t)
		}
	}
	slices.SortFunc(plan.steps, func(a, b CatalogStep) int { return cmp.Compare(a.Name, b.Name) })
	return &plan, nil
}

func (p *catalogPlan) add(step CatalogStep, t fanfare.EventType) {
	p.steps = append(p.steps, step)
	if step.Action != CatalogNoAction {
		p.puts = append(p.puts, t)
	}
}

// changedMembers names what differs between two versions of an event type.
func changedMembers(a, b *fanfare.EventType) (names []string) {
	for _, m := range []struct {
		name string
		same bool
	}{
		{"description", a.Description == b.Description},
		{"group", a.Group == b.Group},
		{"modifiers", bytes.Equal(a.Modifiers, b.Modifiers)},
		{"schema", bytes.Equal(a.Schema, b.Schema)},
		{"samples", bytes.Equal(samplesOf(a), samplesOf(b))},
		{"archived", a.Archived == b.Archived},
		{"origin", a.Origin == b.Origin},
	} {
		if !m.same {
			names = append(names, m.name)
		}
	}
	return names
}
