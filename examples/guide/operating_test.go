package guide

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/recordlog"
)

// health is for a load balancer: whether messages can be accepted now.
func health(sched *queue.Scheduler) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := sched.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	}
}

// waiting says what an operator asks first.
func waiting(w io.Writer, sched *queue.Scheduler) {
	st := sched.Stats()
	fmt.Fprintf(w, "%d due, %d later, %d held, %d running\n", st.Ready, st.Scheduled, st.Held, st.Running)
	for _, q := range st.Queues {
		fmt.Fprintf(w, "%s: %d\n", q.Name, q.Ready+q.Scheduled+q.Held)
	}
}

// failures says why messages failed since then.
func failures(w io.Writer, dir string, since time.Time) error {
	q := &recordlog.Query{From: since, Types: []queue.RecordType{queue.Bounce, queue.Expiration}}
	for item, err := range recordlog.Read(dir, q) {
		if err != nil {
			return err
		}
		r := item.Record
		fmt.Fprintf(w, "%s to %s: %d %s\n", r.Sender, strings.Join(r.Recipients, ", "), r.Response.Code, r.Response.Content)
	}
	return nil
}

// repaired has a queue's mail tried at once.
func repaired(ctx context.Context, sched *queue.Scheduler, name string) error {
	_, err := sched.Admin().Retry(ctx, queue.Filter{Queue: name}, "the database is up again")
	return err
}

func TestOperating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := false
		srv := serve(t, func(context.Context, *deferred.Message) error {
			if !up {
				return errors.New("the database is down")
			}
			return nil
		}, nil, nil)
		if err := srv.Send("app@example.com", []string{"ada@example.net"}, "Subject: x\n\nx\n"); err != nil {
			t.Fatal(err)
		}
		srv.Advance(48 * time.Hour)
		var text strings.Builder
		waiting(&text, srv.Scheduler())
		if want := "0 due, 1 later, 0 held, 0 running\n" + queue.Deferred + ": 1\n"; text.String() != want {
			t.Errorf("%q, want %q", text.String(), want)
		}
		up = true
		if err := repaired(t.Context(), srv.Scheduler(), queue.Deferred); err != nil {
			t.Fatal(err)
		}
		srv.Advance(time.Second)
		if n := len(srv.Records(queue.Delivery)); n != 2 {
			t.Errorf("%d deliveries, want 2", n)
		}
		for full, want := range map[bool]int{false: http.StatusOK, true: http.StatusServiceUnavailable} {
			srv.Spool.SetFull(full)
			w := httptest.NewRecorder()
			health(srv.Scheduler())(w, nil)
			if w.Code != want {
				t.Errorf("full %t: health is %d %s, want %d", full, w.Code, w.Body, want)
			}
		}
	})
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	log, err := recordlog.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []queue.RecordType{queue.Reception, queue.Bounce} {
		err := log.Record(t.Context(), queue.Record{
			Type: typ, Time: time.Now(), Sender: "a@example.com", Recipients: []string{"b@example.net"},
			Response: queue.Response{Code: 550, Content: "no"},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := failures(&text, dir, time.Now().Add(-time.Hour)); err != nil || text.String() != "a@example.com to b@example.net: 550 no\n" {
		t.Errorf("%q, %v", text.String(), err)
	}
}
