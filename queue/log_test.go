package queue

import (
	"log/slog"
	"testing"
)

// testLogger logs to the test, so that what the scheduler says stands beside
// what failed.
func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
