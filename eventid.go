package fanfare

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// Position is a place in the log: milliseconds since 1970 << 16 | a counter. Positions are handed out
// in commit order and never twice, so a reader that has seen position p has seen everything below it.
type Position int64

// PositionAt is the first position of the millisecond of t.
func PositionAt(t time.Time) Position { return Position(t.UnixMilli() << 16) }

// Time is the millisecond that p stands for. It is the database's clock, unless a burst of more than
// 65,536 events in one millisecond or a clock that went back pushed the position ahead of it.
func (p Position) Time() time.Time { return time.UnixMilli(int64(p) >> 16).UTC() }

// TailBits is how many random bits an event id has after its position.
const TailBits = 58

// EventID makes the UUIDv7 (RFC 9562) of the event at position p: 48 bits of milliseconds, 12 bits of
// the counter, 4 more bits of the counter, 58 bits of tail. Byte order is position order. The SQL
// function event_id computes the same.
func EventID(p Position, tail uint64) uuid.UUID {
	var id uuid.UUID
	u := uint64(p)
	binary.BigEndian.PutUint64(id[:8], u&^0xffff|0x7000|(u>>4)&0xfff)
	binary.BigEndian.PutUint64(id[8:], 1<<63|(u&0xf)<<TailBits|tail&(1<<TailBits-1))
	return id
}

// PositionOf reads the position out of an event id. It is meaningless for any other id.
func PositionOf(id uuid.UUID) Position {
	hi, lo := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	return Position(hi&^0xffff | (hi&0xfff)<<4 | (lo>>TailBits)&0xf)
}

// EventTime is the time of an event's commit, to the millisecond, in UTC.
func EventTime(id uuid.UUID) time.Time { return PositionOf(id).Time() }
