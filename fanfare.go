// Package fanfare holds the words of the domain as plain types: what an event, a webhook, a delivery
// and an attempt are, and the closed sets of states and reasons that Go, SQL and JSON share.
//
// It hides how an event id carries its place in the log (see [EventID]). It does nothing else: it has
// no behaviour that needs a clock, a socket or a database, and it imports only the standard library
// and the uuid type.
package fanfare

import (
	"time"

	"github.com/google/uuid"
)

// PlatformAccount is the nil UUID: the account that stands above every root account. Event types and
// platform keys belong to it; no webhook does.
var PlatformAccount uuid.UUID

// Account is a tenant. Accounts form a tree.
type Account struct {
	ID        uuid.UUID
	ParentID  uuid.NullUUID // not valid: a root account
	Name      string        // free text, not unique
	Metadata  []byte        // a JSON object, kept as it was given
	Settings  *Settings     // nil: none of its own
	Emails    []string      // who is mailed about its webhooks and those below it; empty: whoever its parent names
	Version   int64         // rises with every change; the ETag of the resource
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Settings are what an account decides for itself and, where they decide nothing, for those below it.
type Settings struct {
	Signature []byte // how webhooks that do not say so are signed, as in Options; nil: as above it
	// HealthPolicy is a JSON object: what it changes about the policy that it inherits; nil: nothing.
	HealthPolicy []byte
}

// Scope is a thing that a key may do.
type Scope string

// The scopes of a key.
const (
	ScopePublish Scope = "publish" // publish events
	ScopeRead    Scope = "read"    // read everything but secrets
	ScopeWrite   Scope = "write"   // create, change and delete webhooks
	ScopeSecrets Scope = "secrets" // read signing secrets
	ScopeAdmin   Scope = "admin"   // manage keys and sub-accounts
)

// Scopes lists every scope.
func Scopes() []Scope {
	return []Scope{ScopePublish, ScopeRead, ScopeWrite, ScopeSecrets, ScopeAdmin}
}

// Key is an API key without its text, of which only a SHA-256 is kept.
type Key struct {
	ID        uuid.UUID
	AccountID uuid.NullUUID // not valid: a platform key, which acts on everything
	Name      string
	Hint      string // the first characters of the key, enough to tell one from another
	Scopes    []Scope
	CreatedAt time.Time
}

// EventType is an entry of the catalog.
type EventType struct {
	Name        string // [a-z0-9_]+(\.[a-z0-9_]+)*, at most 128 bytes
	Description string
	Group       string
	Modifiers   []byte // a JSON object, kept as it was given: what a webhook may narrow; nil: none
	Schema      []byte // a JSON Schema of its events' data, kept as it was given; nil: any data
	Samples     []byte // a JSON array of objects, kept as it was given
	Archived    bool   // refuses new webhooks; still delivers
	Origin      Origin
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Origin says who brought an event type into the catalog. It belongs to whoever wrote it last.
type Origin string

// The origins.
const (
	OriginAPI      Origin = ""         // a platform key, through the API
	OriginFile     Origin = "file"     // the catalog file
	OriginPlatform Origin = "platform" // Fanfare itself: nobody else may change or delete it
)

// Webhook is an account's subscription: which events go where.
type Webhook struct {
	ID                 uuid.UUID
	AccountID          uuid.UUID
	Version            int64 // rises with every change; the ETag of the resource
	Name               string
	URL                string
	EventTypes         []string // exact names, "prefix.*" (any depth), "*"
	Wishes             *Wishes  // what it wants of events beyond their types; nil: nothing
	IncludeSubaccounts bool     // also events of every descendant account
	Options            *Options // how its requests are made; nil: the zero Options
	Timeout            time.Duration
	RetrySchedule      []time.Duration // each the wait after the end of the attempt before it
	MaxInFlight        int
	RateLimit          RateLimit // zero: none
	Metadata           []byte    // a JSON object, kept as it was given
	Disabled           *Disabled // nil: enabled
	Care               *Care     // how its failures are taken; nil: as its account says
	CreatedAt          time.Time
	UpdatedAt          time.Time
}

// Care is how failures of a webhook are taken.
type Care struct {
	Emails []string  // who is mailed about it; empty: whoever its account names
	Policy []byte    // a JSON object: what it changes about the health policy that it inherits; nil: nothing
	From   time.Time // when it was last enabled, or got another URL: attempts before do not count; zero: never
}

// Wishes narrow which events of its types a webhook gets.
type Wishes struct {
	Modifiers []byte // a JSON object, kept as it was given: values that events must have; nil: none
	Filter    []byte // a JSON object, kept as it was given: a condition on events; nil: none
	Canonical []byte // Filter in the form that is matched
}

// Options say how a webhook's requests are made. The zero Options is a POST of the envelope as JSON, its
// data byte for byte as published, signed as the account has it.
type Options struct {
	Method     string   // PUT or GET; "": POST
	Form       bool     // application/x-www-form-urlencoded, not JSON
	Raw        bool     // the event's data itself, without the envelope
	ECMAScript bool     // JSON in the form that JSON.stringify gives
	CustomData []byte   // a JSON object of strings, which goes into the data; nil: none
	Headers    []Header // beyond those that every request has
	Signature  []byte   // a JSON array of signature schemes; nil: the account's default
}

// Header is a line of a request's header whose value may contain placeholders.
type Header struct {
	Name   string
	Value  string // "" if it is a secret
	Sealed []byte // the value of one that is a secret; nil: it is none
}

// RateLimit bounds how often requests start: no more than Count within any Per, spread evenly.
type RateLimit struct {
	Count int // 0: no limit
	Per   time.Duration
}

// Disabled says who switched a webhook off, when and why.
type Disabled struct {
	By       string // user, health, gone, filter
	Reason   string
	At       time.Time
	Evidence string // a JSON object: what it was disabled for; "": somebody's wish
}

// Who may have disabled a webhook.
const (
	DisabledByUser   = "user"   // through the API
	DisabledByHealth = "health" // the disabler
	DisabledByGone   = "gone"   // the receiver answered 410
	DisabledByFilter = "filter" // never stored: the webhook's filter or modifiers cannot be read
)

// Secret signs what a webhook is sent.
type Secret struct {
	ID        uuid.UUID
	Key       []byte    // the HMAC key itself
	CreatedAt time.Time // the newest secret is the current one
	ExpiresAt time.Time // zero: does not expire; an older secret signs too until then
}

// Destination is a one-off target of a single event, beside the webhooks that it matches. It is signed with
// secrets of the event's account.
type Destination struct {
	URL     string
	Options *Options // nil: the zero Options
}

// Event is what happened in an account. It never changes, but that its data may be expunged.
type Event struct {
	ID             uuid.UUID // made by [EventID]: identity and place in the log
	AccountID      uuid.UUID
	Type           string
	Data           []byte      // a JSON object, byte for byte as published
	OccurredAt     time.Time   // zero: not given
	IdempotencyKey string      // "": none
	WebhookIDs     []uuid.UUID // what it matched when it was committed: its fan-out
	Matched        int         // how many of them belong to the event's own account
	Destinations   []byte      // its one-off targets, sealed by whoever published it; nil: none
	Test           bool        // made by a webhook's test send; no list shows it
	ExpungedAt     time.Time   // when Data was removed for good; zero: never
}

// CreatedAt is the time of the event's commit, to the millisecond: it is part of the id.
func (e *Event) CreatedAt() time.Time { return EventTime(e.ID) }

// State is where a delivery stands.
type State string

// The states of a delivery.
const (
	Pending   State = "pending"   // owed
	Delivered State = "delivered" // a receiver answered 2xx; final
	Exhausted State = "exhausted" // given up
	Discarded State = "discarded" // not wanted any more
)

// Reason says why a delivery ended without success.
type Reason string

// The reasons, by the state they explain.
const (
	ReasonSchedule    Reason = "schedule"    // exhausted: the last step of the schedule failed
	ReasonExpired     Reason = "expired"     // exhausted: too old before its turn came
	ReasonReject      Reason = "reject"      // exhausted: cannot succeed by repeating
	ReasonQuarantined Reason = "quarantined" // exhausted: its node died with it three times

	ReasonWebhookDisabled Reason = "webhook_disabled" // discarded
	ReasonWebhookDeleted  Reason = "webhook_deleted"  // discarded
	ReasonAccountDeleted  Reason = "account_deleted"  // discarded
	ReasonGone            Reason = "gone"             // discarded: this attempt's 410 disabled the webhook, or it was for a one-off destination
)

// Trigger says why an attempt was made.
type Trigger string

// The triggers of this version.
const (
	TriggerFirst Trigger = "first"
	TriggerRetry Trigger = "retry"
	TriggerTest  Trigger = "test"
)

// Verdict is what one attempt taught.
type Verdict string

// The verdicts.
const (
	VerdictDelivered Verdict = "delivered"
	VerdictRetry     Verdict = "retry"
	VerdictReject    Verdict = "reject" // cannot succeed by repeating
	VerdictGone      Verdict = "gone"   // 410: disable the webhook
)

// ErrorCode says what went wrong with an attempt; "" if it was delivered.
type ErrorCode string

// The error codes.
const (
	ErrDNS      ErrorCode = "dns"      // the name does not resolve
	ErrConnect  ErrorCode = "connect"  // no TCP connection: refused, reset, unreachable
	ErrTLS      ErrorCode = "tls"      // the handshake or the certificate failed
	ErrTimeout  ErrorCode = "timeout"  // the webhook's timeout passed, at whatever phase
	ErrBlocked  ErrorCode = "blocked"  // the address or scheme is one the operator does not allow
	ErrStatus   ErrorCode = "status"   // a complete response that is not 2xx and no redirect
	ErrRedirect ErrorCode = "redirect" // a 3xx: redirects are not followed
	ErrProtocol ErrorCode = "protocol" // not HTTP, too many headers, a truncated body
	ErrRequest  ErrorCode = "request"  // no request could be made of it
	ErrOwn      ErrorCode = "own"      // our own fault: costs no try and no health
)

// Attempt is one HTTP request of a delivery and what came back, or, with Number 0, a decision without
// a request that ended a delivery.
type Attempt struct {
	ID              uuid.UUID // time-ordered; made before the request
	EventID         uuid.UUID
	WebhookID       uuid.UUID // of a one-off destination: what stands for it, and names no webhook
	Destination     int       // a one-off destination's place in its event's list, from 1; 0: a webhook's
	AccountID       uuid.UUID // the webhook's
	WebhookVersion  int64
	Number          int // 1-based count of the delivery's requests; 0: no request was made
	Trigger         Trigger
	StartedAt       time.Time
	Duration        time.Duration
	URL             string
	Method          string
	Status          int // 0: no response
	Verdict         Verdict
	State           State  // the delivery's, after this
	Reason          Reason // "" unless State is exhausted or discarded
	Error           ErrorCode
	ErrorDetail     string    // one line for the webhook's owner; no secret, no internal address
	ResponseHeaders []byte    // as "Name: value\r\n" lines
	ResponseBody    []byte    // the first 4 KiB of a failure's, 256 bytes of a success's
	RetryAt         time.Time // zero: no retry
	Node            uuid.UUID // the incarnation that made it
}

// Delivery is one (event, webhook) pair, or an event and one of its one-off destinations, and its state.
type Delivery struct {
	EventID       uuid.UUID
	EventType     string
	WebhookID     uuid.UUID // as an attempt's
	Destination   int       // as an attempt's
	AccountID     uuid.UUID // the webhook's
	State         State
	Reason        Reason
	Attempts      int       // requests made
	LastAttempt   *Attempt  // nil: none yet
	NextAttemptAt time.Time // zero: none is due
}
