package store

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// registerUUID teaches a connection to send and read uuid.UUID and []uuid.UUID as the bytes that they
// are. Left to itself pgx takes each for a driver.Valuer and goes through its text, which is most of the
// work of a commit on this side.
func registerUUID(m *pgtype.Map) {
	one := &pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}}
	m.RegisterType(one)
	m.RegisterType(&pgtype.Type{
		Name: "_uuid", OID: pgtype.UUIDArrayOID, Codec: uuidArrayCodec{&pgtype.ArrayCodec{ElementType: one}},
	})
}

// uuidCodec leaves every other Go type, and the text format, to pgx.
type uuidCodec struct{ pgtype.UUIDCodec }

func (c uuidCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return uuidPlan{}
	}
	return c.UUIDCodec.PlanEncode(m, oid, format, value)
}

func (c uuidCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return uuidPlan{}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, target)
}

type uuidPlan struct{}

func (uuidPlan) Encode(value any, buf []byte) ([]byte, error) {
	id := value.(uuid.UUID)
	return append(buf, id[:]...), nil
}

// Scan leaves the target as it is if the value is NULL, as uuid.UUID's own Scan does.
func (uuidPlan) Scan(src []byte, target any) error {
	if src == nil {
		return nil
	}
	if len(src) != len(uuid.UUID{}) {
		return fmt.Errorf("a uuid of %d bytes", len(src))
	}
	copy(target.(*uuid.UUID)[:], src)
	return nil
}

// uuidArrayCodec leaves everything but sending a []uuid.UUID to pgx.
type uuidArrayCodec struct{ *pgtype.ArrayCodec }

func (c uuidArrayCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.([]uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return uuidArrayPlan{}
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

type uuidArrayPlan struct{}

// Encode writes what Postgres's array_recv reads: the number of dimensions, whether there are NULLs, the
// element's type, the length and lower bound of the one dimension, then each element after its length.
func (uuidArrayPlan) Encode(value any, buf []byte) ([]byte, error) {
	ids := value.([]uuid.UUID)
	word := binary.BigEndian.AppendUint32
	if len(ids) == 0 {
		return word(word(word(buf, 0), 0), pgtype.UUIDOID), nil
	}
	buf = word(word(word(buf, 1), 0), pgtype.UUIDOID)
	buf = word(word(buf, uint32(len(ids))), 1)
	for i := range ids {
		buf = append(word(buf, uint32(len(ids[i]))), ids[i][:]...)
	}
	return buf, nil
}
