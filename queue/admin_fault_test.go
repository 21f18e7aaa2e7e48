package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A slySpool answers Apply and Claim as it is told to.
type slySpool struct {
	*spool.Memory
	apply func(units []spool.Unit, do func() []error) []error
	claim func(req spool.ClaimRequest)
	scan  func()
	token chan struct{} // holds a token while the functions are read or set
}

func newSly(m *spool.Memory) *slySpool { return &slySpool{Memory: m, token: make(chan struct{}, 1)} }

func (s *slySpool) set(apply func([]spool.Unit, func() []error) []error, claim func(spool.ClaimRequest)) {
	s.token <- struct{}{}
	s.apply, s.claim = apply, claim
	<-s.token
}

func (s *slySpool) Apply(ctx context.Context, units ...spool.Unit) []error {
	s.token <- struct{}{}
	apply := s.apply
	<-s.token
	do := func() []error { return s.Memory.Apply(ctx, units...) }
	if apply == nil {
		return do()
	}
	return apply(units, do)
}

func (s *slySpool) Claim(ctx context.Context, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	s.token <- struct{}{}
	claim := s.claim
	<-s.token
	entries, next, err := s.Memory.Claim(ctx, req)
	if claim != nil {
		claim(req)
	}
	return entries, next, err
}

func (s *slySpool) Scan(ctx context.Context, q spool.Query) iter.Seq2[*spool.Entry, error] {
	s.token <- struct{}{}
	scan := s.scan
	<-s.token
	if scan != nil {
		scan()
	}
	return s.Memory.Scan(ctx, q)
}

// startSly is startAdmin on a slySpool.
func startSly(t *testing.T, c setup) (adminWorld, *slySpool) {
	var sly *slySpool
	c.wrap = func(m *spool.Memory) spool.Spool { sly = newSly(m); return sly }
	return startAdmin(t, c), sly
}

// wantUnowned wants that nobody owns any entry of the store.
func (w adminWorld) wantUnowned() {
	w.t.Helper()
	synctest.Wait()
	other := w.sp.Attach()
	for _, e := range w.entries() {
		got, _, err := other.Claim(w.t.Context(), spool.ClaimRequest{IDs: []spool.ID{e.ID}})
		if err != nil || len(got) != 1 {
			w.t.Errorf("%s is owned and forgotten: %+v, %v", e.ID, e, err)
			continue
		}
		other.Apply(w.t.Context(), spool.Unit{{Op: spool.Release, Entry: got[0]}})
	}
	if err := other.Close(); err != nil {
		w.t.Error(err)
	}
}

// putMany has n messages fail once, so that they are scheduled.
func (w adminWorld) putMany(n int) (ids []spool.ID) {
	w.t.Helper()
	for i := range n {
		ids = append(ids, w.put(fmt.Sprintf("fail%d@x.example", i)))
	}
	return ids
}

// An action that is cancelled says what it did, and leaves nothing owned.
func TestActionCancelled(t *testing.T) {
	const n = 600 // three pages
	for _, at := range []string{"claim", "store", "record"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, sly := startSly(t, setup{})
				w.putMany(n)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				page := 0
				switch at {
				case "claim":
					sly.set(nil, func(req spool.ClaimRequest) {
						if req.IDs != nil {
							if page++; page == 2 {
								cancel()
							}
						}
					})
				case "store":
					sly.set(func(units []spool.Unit, do func() []error) []error {
						if units[0][0].Op == spool.Update && len(units) > 1 {
							if page++; page == 2 {
								cancel()
								errs := make([]error, len(units))
								for i := range errs {
									errs[i] = spool.ErrBusy
								}
								return errs
							}
						}
						return do()
					}, nil)
				case "record":
					w.mu.Lock()
					w.refuse = 1
					w.mu.Unlock()
					time.AfterFunc(time.Millisecond, cancel)
				}
				r, err := w.admin.Drop(ctx, Filter{Queue: "q"}, "why")
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("error %v, want that of the context", err)
				}
				if r.Done == 0 || r.Done >= n {
					t.Errorf("%+v, want a part", r)
				}
				sly.set(nil, nil)
				time.Sleep(time.Minute) // what has ended is recorded without it
				w.wantUnowned()
				if left := len(w.entries()); left != n-int(r.Done) {
					t.Errorf("%d are left after %d were dropped", left, r.Done)
				}
				rest, err := w.admin.Drop(t.Context(), Filter{Queue: "q"}, "why")
				if err != nil || rest.Done != n-r.Done {
					t.Errorf("the rest: %+v, %v", rest, err)
				}
				ends := 0
				for _, at := range w.recordTypes() {
					if at == string(AdminBounce) {
						ends++
					}
				}
				if ends != n {
					t.Errorf("%d ends recorded, want %d", ends, n)
				}
			})
		})
	}
}

// Where the process dies between the steps of an end, the next one goes on from there.
func TestActionCrash(t *testing.T) {
	for _, at := range []string{"before it is stored", "before its record", "before it is removed"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, sly := startSly(t, setup{})
				id := w.put("fail@x.example")
				var next *spool.Memory
				crash := func() { next = w.sp.Crash() }
				sly.set(func(units []spool.Unit, do func() []error) []error {
					switch op := units[0][0].Op; {
					case at == "before it is stored" && op == spool.Update, at == "before it is removed" && op == spool.Remove:
						if next == nil {
							crash()
						}
					case at == "before its record" && op == spool.Update:
						errs := do()
						crash()
						return errs
					}
					return do()
				}, nil)
				r, _ := w.admin.Bounce(t.Context(), Filter{IDs: []spool.ID{id}}, "why")
				w.shutdown()
				_, first := w.recordsOf(id)
				after := startAdmin(t, setup{sp: next})
				types, last := after.recordsOf(id)
				if at == "before it is stored" {
					if r.Done != 0 || r.Failed != 1 || len(types) != 0 || after.entry(id) == nil {
						t.Errorf("%+v, then %s", r, types)
					}
					return
				}
				if len(types) != 1 || last.Type != AdminBounce || after.entry(id) != nil {
					t.Errorf("recorded %s, left %+v", types, after.entry(id))
				}
				if first.Type == AdminBounce && !first.Time.Equal(last.Time) {
					t.Errorf("the record has another time: %v, %v", first.Time, last.Time)
				}
			})
		})
	}
}

// An answer that is lost is asked for again; nothing is done twice or given up.
func TestActionAmbiguous(t *testing.T) {
	for _, how := range []string{"done", "partly done", "done, and cancelled later"} {
		done := how != "partly done"
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, sly := startSly(t, setup{})
				ids := w.putMany(3)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				tries := 0
				sly.set(func(units []spool.Unit, do func() []error) []error {
					if units[0][0].Op != spool.Update {
						return do()
					}
					switch tries++; {
					case tries == 2 && how == "done, and cancelled later":
						cancel()
						return do()
					case tries > 1:
						return do()
					case how != "done, and cancelled later":
						cancel() // it is finished all the same
					}
					errs := make([]error, len(units))
					for i := range units {
						if done || i == 1 {
							errs[i] = spool.ErrAmbiguous
						}
					}
					if done {
						for _, u := range units {
							lost := u[0]
							lost.Entry = lost.Entry.Clone()
							w.sp.Apply(context.Background(), spool.Unit{lost})
						}
					} else {
						w.sp.Apply(context.Background(), units[0])
						w.sp.Apply(context.Background(), units[2])
					}
					return errs
				}, nil)
				r, err := w.admin.Hold(ctx, Filter{IDs: ids}, "why")
				if r.Done != 3 || !errors.Is(err, context.Canceled) {
					t.Errorf("%+v, %v", r, err)
				}
				for _, e := range w.entries() {
					if e.State != spool.Held {
						t.Errorf("%s is %s", e.ID, e.State)
					}
				}
				w.wantUnowned()
			})
		})
	}
}

// What cannot be changed is counted, and given back.
func TestActionRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sly := startSly(t, setup{})
		ids := w.putMany(3)
		refusal := errors.New("no")
		sly.set(func(units []spool.Unit, do func() []error) []error {
			if units[0][0].Op != spool.Update {
				return do()
			}
			do = func() []error { return w.sp.Apply(context.Background(), units[0], units[2]) }
			do()
			return []error{nil, refusal, nil}
		}, nil)
		r, err := w.admin.Hold(t.Context(), Filter{IDs: ids}, "why")
		if err != nil || r.Done != 2 || r.Failed != 1 || len(r.Errors) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		for _, err := range r.Errors {
			if !errors.Is(err, refusal) {
				t.Error(err)
			}
		}
		w.wantUnowned()
	})
}

// What a claim of the scheduler is bringing in is waited for, not missed.
func TestActionWaitsForClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sly := startSly(t, setup{})
		id := w.put("fail@x.example")
		hang, hung := make(chan struct{}), make(chan struct{})
		sly.set(nil, func(req spool.ClaimRequest) {
			if req.IDs == nil && !req.Due.Before(w.entry(id).Due) {
				close(hung)
				<-hang
			}
		})
		go w.put("block@x.example")
		<-hung
		sly.set(nil, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := w.admin.Drop(ctx, Filter{IDs: []spool.ID{id}}, "why"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v while nobody knows who has it", err)
		}
		time.AfterFunc(time.Minute, func() { close(hang) })
		r, err := w.admin.Drop(t.Context(), Filter{IDs: []spool.ID{id}}, "why")
		if err != nil || r.Done+r.RunningHere != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		w.letGo()
	})
}

// While an action makes messages its own the scheduler claims none.
func TestActionKeepsClaimsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sly := startSly(t, setup{})
		id := w.put("fail@x.example")
		var looking, met, after atomic.Int32
		sly.set(nil, func(req spool.ClaimRequest) {
			switch {
			case req.IDs != nil:
				looking.Store(1)
				time.Sleep(5 * time.Minute)
				looking.Store(0)
			case looking.Load() == 1:
				met.Add(1)
			default:
				after.Add(1)
			}
		})
		act(t, w.admin.Hold, id)
		if met.Load() != 0 || after.Load() == 0 {
			t.Errorf("%d claims meanwhile and %d at once afterwards, want none and some", met.Load(), after.Load())
		}
		sly.set(nil, nil)
	})
}

// A message that changed between the look and the claim is judged again.
func TestActionJudgesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		ids := w.putMany(2)
		other := startAdmin(t, setup{sp: w.sp.Attach()})
		w.sched.mu.Lock() // keeps the action from claiming before
		w.sched.mu.passing++
		w.sched.mu.Unlock()
		done := make(chan Result)
		go func() {
			r, err := w.admin.Bounce(t.Context(), Filter{Queue: "q"}, "why")
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		synctest.Wait()
		if _, err := other.admin.Rebind(t.Context(), Filter{IDs: ids[:1]}, "r", "mine", nil); err != nil {
			t.Error(err)
		}
		w.sched.passed()
		r := <-done
		if r.Done != 1 || r.RunningHere+r.OwnedElsewhere+r.Failed != 0 {
			t.Errorf("%+v", r)
		}
		if e := w.entry(ids[0]); e == nil || e.Queue != "r" {
			t.Errorf("what was moved away first is %+v", e)
		}
	})
}
