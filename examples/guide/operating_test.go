package guide

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

// byType keeps failed attempts in files of their own, and does not keep rejections.
func byType() *recordlog.Options {
	return &recordlog.Options{PerType: map[queue.RecordType]recordlog.TypeOptions{
		queue.TransientFailure: {Suffix: "transient", Meta: []string{"tenant"}}, // 20300102T030405.000000001Z-transient.jsonl.zst
		queue.Rejection:        {Off: true},
	}}
}

// bounces deals with each bounce, from where the cursor stands on, until ctx is done.
func bounces(ctx context.Context, dir string, cursor recordlog.Cursor, deal func(queue.Record) error) error {
	q := &recordlog.Query{After: cursor, Types: []queue.RecordType{queue.Bounce}}
	for item, err := range recordlog.Follow(ctx, dir, q) {
		var damage *recordlog.CorruptError
		if errors.As(err, &damage) {
			slog.Error("bounces: records are lost", "error", damage)
			continue // with the next segment
		}
		if err != nil {
			return err
		}
		if err := deal(item.Record); err != nil {
			return err // it comes again
		}
		cursor.Advance(item.Mark) // and is stored, as JSON, with what was done
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

// TestBounces: types have their files, a cursor goes on where it stood, and what is
// finished may be deleted meanwhile, as the page says.
func TestBounces(t *testing.T) {
	dir := t.TempDir()
	log, err := recordlog.Open(dir, byType())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	put := func(sender string, types ...queue.RecordType) {
		t.Helper()
		for _, typ := range types {
			if err := log.Record(t.Context(), queue.Record{Type: typ, Sender: sender, Time: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		if err := log.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cursor := recordlog.Cursor{}
	enough := errors.New("enough")
	next := func() (sender string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := bounces(ctx, dir, cursor, func(r queue.Record) error {
			if sender != "" {
				return enough
			}
			sender = r.Sender
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatalf("after %q: %v", sender, err)
		}
		return sender
	}
	put("1@example.com", queue.Bounce, queue.TransientFailure, queue.Rejection)
	put("2@example.com", queue.Bounce)
	put("3@example.com", queue.Bounce)
	if got := next(); got != "1@example.com" {
		t.Errorf("first %s", got)
	}
	plain, _ := filepath.Glob(filepath.Join(dir, "*Z.jsonl.zst"))
	transient, _ := filepath.Glob(filepath.Join(dir, "*Z-transient.jsonl.zst"))
	if len(plain) != 3 || len(transient) != 1 {
		t.Fatalf("%d and %d segments, want 3 and 1", len(plain), len(transient))
	}
	for _, name := range plain[:2] { // that of the cursor, and one that was not read
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o222 != 0 {
			t.Errorf("%s is not finished: %v, %v", name, info.Mode(), err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	put("4@example.com", queue.Bounce)
	if got := next(); got != "3@example.com" {
		t.Errorf("then %s", got)
	}
}
