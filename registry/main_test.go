package registry

import (
	"testing"

	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
