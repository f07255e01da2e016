package store

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/fanfare-webhooks/fanfare"
)

// storedOptions is the column of a webhook's options. Members that are as by default are left out.
type storedOptions struct {
	Method     string          `json:"method,omitempty"`
	Form       bool            `json:"form,omitempty"`
	Raw        bool            `json:"raw,omitempty"`
	ECMAScript bool            `json:"ecmascript,omitempty"`
	CustomData json.RawMessage `json:"custom_data,omitempty"`
	Headers    []storedHeader  `json:"headers,omitempty"`
	Signature  json.RawMessage `json:"signature,omitempty"`
}

type storedHeader struct {
	Name   string `json:"name"`
	Value  string `json:"value,omitempty"`
	Sealed []byte `json:"sealed,omitempty"`
}

// storedSettings is the column of an account's settings, likewise.
type storedSettings struct {
	Signature    json.RawMessage `json:"signature,omitempty"`
	HealthPolicy json.RawMessage `json:"health_policy,omitempty"`
}

func readOptions(column []byte) (*fanfare.Options, error) {
	if column == nil {
		return nil, nil
	}
	var o storedOptions
	if err := json.Unmarshal(column, &o); err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	read := &fanfare.Options{
		Method: o.Method, Form: o.Form, Raw: o.Raw, ECMAScript: o.ECMAScript, CustomData: o.CustomData, Signature: o.Signature,
	}
	for _, h := range o.Headers {
		read.Headers = append(read.Headers, fanfare.Header(h))
	}
	return read, nil
}

// writeOptions is null for the zero options.
func writeOptions(o *fanfare.Options) []byte {
	if o == nil {
		return nil
	}
	stored := storedOptions{
		Method: o.Method, Form: o.Form, Raw: o.Raw, ECMAScript: o.ECMAScript, CustomData: o.CustomData, Signature: o.Signature,
	}
	for _, h := range o.Headers {
		stored.Headers = append(stored.Headers, storedHeader(h))
	}
	return columnOf(stored)
}

func readSettings(column []byte) (*fanfare.Settings, error) {
	if column == nil {
		return nil, nil
	}
	var s storedSettings
	if err := json.Unmarshal(column, &s); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return &fanfare.Settings{Signature: s.Signature, HealthPolicy: s.HealthPolicy}, nil
}

func writeSettings(s *fanfare.Settings) []byte {
	if s == nil {
		return nil
	}
	return columnOf(storedSettings{Signature: s.Signature, HealthPolicy: s.HealthPolicy})
}

// columnOf is v as JSON, null if it says nothing.
func columnOf(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // what is JSON already is kept as it is
	if err := e.Encode(v); err != nil {
		panic(err) // its parts were checked when they were read
	}
	column := bytes.TrimSpace(b.Bytes())
	if string(column) == "{}" {
		return nil
	}
	return column
}
