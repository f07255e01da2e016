// Package weaken switches protections off, one by one, so that the tests which prove them can be seen to
// fail without them.
//
// It hides how: an ordinary build has no switch. There [Off] is a constant, and the compiler leaves the
// weak branches out. Only a build with the tag weakened listens to the environment variable
// FANFARE_WEAKEN, a list of names with commas between.
package weaken

// Protection is what can be switched off.
type Protection string

// The protections.
const (
	Slots    Protection = "slots"    // an account holds at most as many slots as are free
	InFlight Protection = "inflight" // a webhook's requests in flight are bounded and adapt
	Gate     Protection = "gate"     // an endpoint that is down is only probed
	Ramp     Protection = "ramp"     // an endpoint that comes back is released gradually
	Rate     Protection = "rate"     // a webhook's own rate limit
	Park     Protection = "park"     // what finds no room in memory waits in Postgres
	Claims   Protection = "claims"   // claims name the webhooks that have room
	Shed     Protection = "shed"     // overload is refused early
	Schedule Protection = "schedule" // a retry waits for its step

	SyncCommit Protection = "syncommit" // the log's commits wait for the disk
	Early202   Protection = "early202"  // a publish is answered after its commit
	Fence      Protection = "fence"     // only the owner of a delivery changes its state
	Version    Protection = "version"   // a commit checks what it was matched against
	Keys       Protection = "keys"      // idempotency keys go in before their events, and decide

	Order Protection = "order" // commits to the log are one at a time, so that ids rise as they become visible

	Remember Protection = "remember" // a group is in memory before it is committed
	Lease    Protection = "lease"    // no request starts without one
	Settle   Protection = "settle"   // a group stays open until its last outcome is on record
	Session  Protection = "session"  // a group is settled only by the session that recorded all of its outcomes
	Orphans  Protection = "orphans"  // what a dead node had claimed is given free
	Claiming Protection = "claiming" // nobody looks for forgotten claims while one is under way
)
