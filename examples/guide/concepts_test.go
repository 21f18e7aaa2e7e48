package guide

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
)

func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flaky := func(_ context.Context, m *deferred.Message) error {
			m.Meta["seen"] = "yes" // forgotten when this fails
			if m.Attempt < 3 {
				return errors.New("the database is down")
			}
			return nil
		}
		srv := serve(t, flaky, nil, nil)
		if err := srv.Send("app@example.com", []string{"ada@example.net"}, "Subject: x\n\nx\n"); err != nil {
			t.Fatal(err)
		}
		srv.Advance(time.Hour)
		var life []queue.RecordType
		for _, r := range srv.Records() {
			life = append(life, r.Type)
		}
		want := []queue.RecordType{
			queue.Reception,        // the 250
			queue.TransientFailure, // the callback failed: again in 1 minute
			queue.TransientFailure, // and once more: in 2
			queue.Delivery,         // nil: rebound to the queue example.net
			queue.Delivery,         // its handler is done
		}
		if len(life) != len(want) {
			t.Fatalf("records %v, want %v", life, want)
		}
		for i := range want {
			if life[i] != want[i] {
				t.Errorf("record %d is %s, want %s", i, life[i], want[i])
			}
		}
	})
}
