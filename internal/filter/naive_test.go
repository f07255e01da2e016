package filter

import (
	"bytes"
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// What the language means, as plainly as it can be said: on decoded values, without any bound.

// twice stands for a value whose name stands twice in its object.
type twice struct{}

// decodeNaive is the value of checked JSON: nil, bool, json.Number, string, []any, map[string]any, twice.
func decodeNaive(text []byte) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return decodeNext(d)
}

func decodeNext(d *json.Decoder) any {
	token, err := d.Token()
	if err != nil {
		panic(err)
	}
	switch token {
	case json.Delim('{'):
		object := make(map[string]any)
		for d.More() {
			name := decodeNext(d).(string)
			value := decodeNext(d)
			if _, known := object[name]; known {
				value = twice{}
			}
			object[name] = value
		}
		_, _ = d.Token()
		return object
	case json.Delim('['):
		list := []any{}
		for d.More() {
			list = append(list, decodeNext(d))
		}
		_, _ = d.Token()
		return list
	}
	return token
}

type naiveEvent map[string]any

func newNaiveEvent(eventType, account string, data []byte) naiveEvent {
	return naiveEvent{"type": eventType, "account_id": account, "data": decodeNaive(data)}
}

func (e naiveEvent) at(path []string) (value any, s state) {
	value = map[string]any(e)
	for _, name := range path {
		switch v := value.(type) {
		case twice:
			return nil, unclear
		case map[string]any:
			var ok bool
			if value, ok = v[name]; !ok {
				return nil, missing
			}
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || strconv.Itoa(i) != name || i < 0 || i >= len(v) {
				return nil, missing
			}
			value = v[i]
		default:
			return nil, missing
		}
	}
	if (value == twice{}) {
		return nil, unclear
	}
	return value, present
}

func (e naiveEvent) object(filter map[string]any, path []string) verdict {
	v := holds
	for name, operand := range filter {
		v = min(v, e.member(name, operand, path))
	}
	return v
}

func (e naiveEvent) member(name string, operand any, path []string) verdict {
	all := func(v verdict, join func(...verdict) verdict) verdict {
		for _, one := range operand.([]any) {
			v = join(v, e.object(one.(map[string]any), path))
		}
		return v
	}
	switch name {
	case "$and":
		return all(holds, func(v ...verdict) verdict { return min(v[0], v[1]) })
	case "$or":
		return all(fails, func(v ...verdict) verdict { return max(v[0], v[1]) })
	case "$not":
		return holds - e.object(operand.(map[string]any), path)
	}
	if !strings.HasPrefix(name, "$") {
		path = append(slices.Clone(path), name)
		if inner, ok := operand.(map[string]any); ok {
			return e.object(inner, path)
		}
		name = "$eq"
	}
	value, s := e.at(path)
	switch {
	case name == "$exists" && s != unclear:
		return verdictOf((s == present) == operand.(bool))
	case s != present:
		return unknown
	}
	switch name {
	case "$eq":
		return verdictOf(naiveHas(value, operand))
	case "$ne":
		return verdictOf(!naiveHas(value, operand))
	case "$in", "$nin":
		found := slices.ContainsFunc(operand.([]any), func(o any) bool { return naiveHas(value, o) })
		return verdictOf(found == (name == "$in"))
	case "$contains":
		if _, ok := value.([]any); ok {
			return verdictOf(naiveHas(value, operand))
		}
	}
	if text, ok := value.(string); ok {
		part, same := operand.(string)
		if !same {
			return unknown
		}
		switch name {
		case "$contains":
			return verdictOf(strings.Contains(text, part))
		case "$starts_with":
			return verdictOf(strings.HasPrefix(text, part))
		case "$ends_with":
			return verdictOf(strings.HasSuffix(text, part))
		}
		return naiveOrder(name, strings.Compare(text, part))
	}
	number, ok1 := value.(json.Number)
	than, ok2 := operand.(json.Number)
	if !ok1 || !ok2 {
		return unknown
	}
	return naiveOrder(name, rat(number).Cmp(rat(than)))
}

func naiveOrder(name string, order int) verdict {
	switch name {
	case "$gt":
		return verdictOf(order > 0)
	case "$gte":
		return verdictOf(order >= 0)
	case "$lt":
		return verdictOf(order < 0)
	case "$lte":
		return verdictOf(order <= 0)
	}
	return unknown
}

func rat(n json.Number) *big.Rat {
	r, ok := new(big.Rat).SetString(n.String())
	if !ok {
		panic(n)
	}
	return r
}

// naiveHas says whether a value is a scalar, or is an array that has it.
func naiveHas(value, scalar any) bool {
	if list, ok := value.([]any); ok {
		return slices.ContainsFunc(list, func(v any) bool { return naiveIs(v, scalar) })
	}
	return naiveIs(value, scalar)
}

func naiveIs(value, scalar any) bool {
	switch v := value.(type) {
	case json.Number:
		s, ok := scalar.(json.Number)
		return ok && rat(v).Cmp(rat(s)) == 0
	case string, bool, nil:
		return value == scalar
	}
	return false
}
