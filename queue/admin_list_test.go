package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Every message is shown wherever it is, and says where.
func TestListShowsEveryPlace(t *testing.T) {
	want := map[string]struct {
		state spool.State
		place Place
		queue string
	}{
		"ready": {spool.Queued, PlaceWaiting, "q"}, "later": {spool.Queued, PlaceWaiting, "q"},
		"due": {spool.Queued, PlaceSpool, "q"}, "scheduled": {spool.Queued, PlaceSpool, "q"},
		"held": {spool.Held, PlaceSpool, "q"}, "running": {spool.Queued, PlaceRunning, "q"},
		"elsewhere": {spool.Queued, PlaceSpool, "q"}, "final": {spool.Final, PlaceRunning, Deferred},
		"kept": {spool.Queued, PlaceWaiting, Deferred},
	}
	for place, bring := range places {
		t.Run(place, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, id := bring(t)
				time.Sleep(time.Millisecond)
				infos, err := w.admin.List(t.Context(), Filter{Recipient: "target"}, spool.ID{}, 0)
				if err != nil || len(infos) != 1 {
					t.Fatalf("listed %d, %v", len(infos), err)
				}
				named, err := w.admin.List(t.Context(), Filter{IDs: []spool.ID{id, spool.NewID()}}, spool.ID{}, 0)
				if err != nil || len(named) != 1 {
					t.Fatalf("listed %d by ID, %v", len(named), err)
				}
				d, err := w.admin.Inspect(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range []Info{infos[0], named[0], d.Info} {
					if x := want[place]; m.ID != id || m.State != x.state || m.Place != x.place || m.Queue != x.queue || m.Stored != (place != "kept") {
						t.Errorf("got %s %s in %s (stored: %v), want %+v", m.State, m.Place, m.Queue, m.Stored, x)
					}
					if m.Envelope.Sender == "" || m.Size == 0 || m.Received.IsZero() || !m.Handler || m.Age < time.Millisecond {
						t.Errorf("incomplete: %+v", m)
					}
				}
				if got := d.Header.Get("Subject"); got != "test" {
					t.Errorf("subject %q", got)
				}
				body, err := w.admin.Open(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				defer body.Close()
				front := map[bool]string{true: "X-Trace: 1\r\n"}[place == "kept"]
				if content, err := io.ReadAll(body); string(content) != front+mail || err != nil || body.Size() != d.Size {
					t.Errorf("content %q, %v", content, err)
				}
				if _, err := body.Seek(0, io.SeekStart); err != nil {
					t.Error(err)
				}
				w.letGo()
			})
		})
	}
}

// What is there all the time is in exactly one page, whatever happens in between.
func TestListPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		var ids []spool.ID
		for i := range 10 {
			ids = append(ids, w.put(fmt.Sprintf("fail%d@x.example", i)))
			time.Sleep(time.Millisecond) // IDs sort by it
		}
		var got []spool.ID
		after := spool.ID{}
		for {
			page, err := w.admin.List(t.Context(), Filter{}, after, 3)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, m := range page {
				got = append(got, m.ID)
			}
			after = page[len(page)-1].ID
			switch len(got) {
			case 3: // one before, one on the page to come, and one anew
				act(t, w.admin.Drop, ids[0])
				act(t, w.admin.Drop, ids[4])
				ids = append(ids, w.put("fail-late@x.example"))
			case 6:
				act(t, w.admin.Hold, ids[7])
				act(t, w.admin.Retry, ids[1])
			}
		}
		want := append(ids[:4:4], ids[5:]...)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("listed %v, want %v", got, want)
		}
	})
}

// act carries out an action on one message.
func act(t *testing.T, action func(ctx context.Context, f Filter, reason string) (Result, error), id spool.ID) {
	t.Helper()
	if r, err := action(t.Context(), Filter{IDs: []spool.ID{id}}, "why"); err != nil || r.Done != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	synctest.Wait()
}

func TestInspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		begin := time.Now()
		id := w.put("fail@x.example")
		time.Sleep(time.Minute)
		d, err := w.admin.Inspect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if d.Attempts != 1 || d.LastError != "down" || d.Age != time.Minute || !d.Due.Equal(begin.Add(time.Hour)) ||
			!d.Expires.Equal(begin.Add(6*time.Hour)) || d.Class != "-" || d.Meta["queue"] != "q" || d.Suspended {
			t.Errorf("got %+v", d)
		}
		var none *Details
		missing := spool.NewID()
		if none, err = w.admin.Inspect(t.Context(), missing); !errors.Is(err, spool.ErrNotFound) || none != nil {
			t.Errorf("what is not there: %v, %v", none, err)
		}
		if _, err := w.admin.Open(t.Context(), missing); !errors.Is(err, spool.ErrNotFound) {
			t.Errorf("opening what is not there: %v", err)
		}
		// Damage is said, and hides nothing else.
		other := w.put("fail@y.example")
		if err := errors.Join(w.sp.Damage(w.entry(id).Body, "body"), w.sp.Damage(other, "entry")); err != nil {
			t.Fatal(err)
		}
		var corrupt *spool.CorruptError
		if d, err := w.admin.Inspect(t.Context(), id); d == nil || d.Attempts != 1 || d.Header != nil || !errors.As(err, &corrupt) {
			t.Errorf("a damaged body: %+v, %v", d, err)
		}
		infos, err := w.admin.List(t.Context(), Filter{}, spool.ID{}, 0)
		if len(infos) != 1 || !errors.As(err, &corrupt) || corrupt.ID != other {
			t.Errorf("listed %d, %v", len(infos), err)
		}
		r, err := w.admin.Hold(t.Context(), Filter{All: true}, "why")
		if err != nil || r.Done != 1 || r.Failed != 1 || !errors.As(r.Errors[other], &corrupt) {
			t.Errorf("held %+v, %v", r, err)
		}
		r, err = w.admin.Hold(t.Context(), Filter{IDs: []spool.ID{other, missing}}, "why")
		if err != nil || r.Failed != 2 || !errors.As(r.Errors[other], &corrupt) || !errors.Is(r.Errors[missing], spool.ErrNotFound) {
			t.Errorf("held by ID %+v, %v", r, err)
		}
	})
}

// What is in memory alone is in the pages as all is, once, even if it is stored while
// a page is made; and who asks does not wait for it longer than he wants.
func TestListKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sly := startSly(t, setup{})
		kw := keptWorld{world: w.world}
		first := kw.accept("block@x.example")[0].ID
		time.Sleep(time.Millisecond)
		stored := w.put("hold@x.example")
		time.Sleep(time.Millisecond)
		last := kw.accept("block@x.example")[0].ID
		all := []spool.ID{first, stored, last}
		list := func(after spool.ID, want ...spool.ID) {
			t.Helper()
			var got []spool.ID
			infos, err := w.admin.List(t.Context(), Filter{}, after, 0)
			for _, m := range infos {
				got = append(got, m.ID)
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("listed %v, %v, want %v", got, err, want)
			}
		}
		list(spool.ID{}, all...)
		list(first, stored, last)
		list(last)

		body := w.sched.kept.holder(first)
		if err := body.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := w.admin.List(ctx, Filter{}, spool.ID{}, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while the spool works on it: %v", err)
		}
		body.release()

		sly.scan = func() {
			sly.scan = nil
			for _, id := range []spool.ID{first, last} {
				if err := w.sched.saveOnce(t.Context(), w.sched.kept.holder(id)); err != nil {
					t.Error(err)
				}
			}
		}
		list(spool.ID{}, all...)
		w.letGo()
		synctest.Wait()
	})
}
