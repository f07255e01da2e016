package retry

import (
	"encoding/json"
	"fmt"
	"time"
)

// HealthOverride is what an account or a webhook changes about the policy that it inherits: nil members
// stay. It is written as JSON, durations as [FormatDuration] has them.
type HealthOverride struct {
	Disable     *bool     `json:"disable,omitempty"`
	Warn        *bool     `json:"warn,omitempty"`
	Percent     *int      `json:"failure_percent,omitempty"`
	MinAttempts *int      `json:"min_attempts,omitempty"`
	Window      *Duration `json:"window,omitempty"`
	Burst       *int      `json:"burst_failures,omitempty"`
	BurstWithin *Duration `json:"burst_within,omitempty"`
	Exhausted   *int      `json:"exhausted_in_a_row,omitempty"`
	Grace       *Duration `json:"grace,omitempty"`
}

// ParseHealthOverride reads what [HealthOverride] is written as; nothing, an empty object and null change
// nothing. Members that it does not know are those of a later version.
func ParseHealthOverride(text []byte) (o HealthOverride, err error) {
	if len(text) == 0 {
		return o, nil
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return HealthOverride{}, fmt.Errorf("read a health policy: %w", err)
	}
	return o, nil
}

// Override is the policy with the members that o names.
func (p HealthPolicy) Override(o HealthOverride) HealthPolicy {
	replace(&p.Disable, o.Disable)
	replace(&p.Warn, o.Warn)
	replace(&p.Percent, o.Percent)
	replace(&p.MinAttempts, o.MinAttempts)
	replace(&p.Window, (*time.Duration)(o.Window))
	replace(&p.Burst, o.Burst)
	replace(&p.BurstWithin, (*time.Duration)(o.BurstWithin))
	replace(&p.Exhausted, o.Exhausted)
	replace(&p.Grace, (*time.Duration)(o.Grace))
	return p
}

func replace[T any](old, with *T) {
	if with != nil {
		*old = *with
	}
}
