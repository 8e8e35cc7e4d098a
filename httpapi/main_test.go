package httpapi_test

import (
	"testing"

	"narthex/internal/dev/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
