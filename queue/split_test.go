package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// tellSplit returns a line for each record but the receptions, and for each
// entry, sorted. The message is number 0; what it was divided into is numbered
// by its recipients.
func (w *world) tellSplit(message spool.ID) []string {
	w.mu.Lock()
	records := slices.Clone(w.records)
	w.mu.Unlock()
	entries := w.entries()
	first := map[spool.ID]string{message: ""}
	for _, r := range records {
		if r.ID != message {
			first[r.ID] = r.Recipients[0]
		}
	}
	numbers := map[spool.ID]int{}
	for i, id := range slices.SortedFunc(maps.Keys(first), func(a, b spool.ID) int { return strings.Compare(first[a], first[b]) }) {
		numbers[id] = i
	}
	var lines []string
	for _, r := range records {
		if r.Type != Reception {
			lines = append(lines, fmt.Sprintf("%s %d %s %d %s", r.Type, numbers[r.ID], shortNames(r.Recipients), r.Attempts, r.Response.Content))
		}
	}
	for _, e := range entries {
		rcpts, due, queue := newRecord("", e, e.Received, Response{}, "").Recipients, "", e.Queue
		if e.State == spool.Queued {
			due = fmt.Sprintf(" in %v", time.Until(e.Due))
		}
		if queue == Deferred {
			queue = "deferred"
		}
		lines = append(lines, fmt.Sprintf("%s %d %s %s %d %s%s", e.State, numbers[e.ID], queue, shortNames(rcpts), e.Attempts, e.LastError, due))
	}
	slices.Sort(lines)
	return lines
}

// shortNames leaves of addresses what stands before @example.com.
func shortNames(rcpts []string) string {
	return strings.ReplaceAll(strings.Join(rcpts, ","), "@example.com", "")
}

func TestSplit(t *testing.T) {
	down, busy := errors.New("down"), errors.New("busy")
	no, later := Reject(550, "5.1.1 no"), RetryAfter(time.Hour, errors.New("down"))
	tests := []struct {
		name   string
		parts  []error // of a, b, c
		config Config
		relay  bool // in another queue
		want   []string
	}{
		{name: "success and a retry", parts: []error{nil, down, nil}, want: []string{
			"Delivery 1 a,c 0 OK queued as rest",
			"TransientFailure 0 b 1 down",
			"queued 0 deferred b 1 down in 1m0s",
			"queued 1 rest a,c 0  in 1h0m0s",
		}},
		{name: "several retries, one by delay, one by code", parts: []error{later, down, Reject(451, "down")}, want: []string{
			"TransientFailure 0 a 1 down",
			"TransientFailure 1 b 1 down",
			"TransientFailure 2 c 1 down",
			"queued 0 deferred a 1 down in 1h0m0s",
			"queued 1 deferred b 1 down in 1m0s",
			"queued 2 deferred c 1 down in 1m0s",
		}},
		{name: "equal by codes, text and delay", parts: []error{down, fmt.Errorf("down"), later}, want: []string{
			"TransientFailure 0 a,b 1 down",
			"TransientFailure 1 c 1 down",
			"queued 0 deferred a,b 1 down in 1m0s",
			"queued 1 deferred c 1 down in 1h0m0s",
		}},
		{name: "apart by enhanced code", parts: []error{Reject(550, "5.1.1 no"), Reject(550, "5.1.2 no"), no}, want: []string{
			"Bounce 0 a,c 1 no",
			"Bounce 1 b 1 no",
		}},
		{name: "a retry keeps the ID before a hold", parts: []error{Hold("x"), no, busy}, want: []string{
			"TransientFailure 1 a 0 hold: x",
			"TransientFailure 0 c 1 busy",
			"Bounce 2 b 1 no",
			"queued 0 deferred c 1 busy in 1m0s",
			"held 1 deferred a 0 hold: x",
		}},
		{name: "a hold keeps the ID", parts: []error{nil, Hold("x"), Drop("spam")}, want: []string{
			"Delivery 1 a 0 OK queued as rest",
			"TransientFailure 0 b 0 hold: x",
			"AdminBounce 2 c 0 drop: spam",
			"held 0 deferred b 0 hold: x",
			"queued 1 rest a 0  in 1h0m0s",
		}},
		{name: "the first keeps the ID", parts: []error{nil, no, Drop("spam")}, want: []string{
			"Delivery 0 a 0 OK queued as rest",
			"Bounce 1 b 1 no",
			"AdminBounce 2 c 0 drop: spam",
			"queued 0 rest a 0  in 1h0m0s",
		}},
		{name: "the first ends with the ID", parts: []error{no, nil, no}, want: []string{
			"Delivery 1 b 0 OK queued as rest",
			"Bounce 0 a,c 1 no",
			"queued 1 rest b 0  in 1h0m0s",
		}},
		{name: "at MaxAttempts nothing is retried", parts: []error{nil, down, busy}, config: Config{MaxAttempts: 1}, want: []string{
			"Delivery 0 a 0 OK queued as rest",
			"TransientFailure 1 b 1 down",
			"TransientFailure 2 c 1 busy",
			"Expiration 1 b 1 expired after 1 attempts in 0s; last: down",
			"Expiration 2 c 1 expired after 1 attempts in 0s; last: busy",
			"queued 0 rest a 0  in 1h0m0s",
		}},
		{name: "at MaxAttempts a hold keeps the ID", parts: []error{down, Hold("x"), down}, config: Config{MaxAttempts: 1}, want: []string{
			"TransientFailure 1 a,c 1 down",
			"TransientFailure 0 b 0 hold: x",
			"Expiration 1 a,c 1 expired after 1 attempts in 0s; last: down",
			"held 0 deferred b 0 hold: x",
		}},
		{name: "a Split inside", parts: []error{nil, Split([]error{nil}), nil}, want: []string{
			"Delivery 1 a,c 0 OK queued as rest",
			"TransientFailure 0 b 1 a Split inside a Split is no verdict: OK",
			"queued 0 deferred b 1 a Split inside a Split is no verdict: OK in 1m0s",
			"queued 1 rest a,c 0  in 1h0m0s",
		}},
		{name: "wrapped", parts: []error{fmt.Errorf("a: %w", no), no, fmt.Errorf("c: %w", no)}, want: []string{
			"Bounce 0 a,b,c 1 no",
		}},
		{name: "too few", parts: []error{nil, no}, want: []string{
			"TransientFailure 0 a,b,c 1 queue: a Split with 2 verdicts for 3 recipients; return one for each",
			"queued 0 deferred a,b,c 1 queue: a Split with 2 verdicts for 3 recipients; return one for each in 1m0s",
		}},
		{name: "relay, success and a retry", relay: true, parts: []error{nil, down, no}, want: []string{
			"Delivery 0 a,b,c 0 OK queued as rest",
			"Delivery 1 a 0 OK",
			"TransientFailure 0 b 1 down",
			"Bounce 2 c 1 no",
			"queued 0 rest b 1 down in 20m0s",
		}},
		{name: "relay, the ID ends with a success", relay: true, parts: []error{nil, no, no}, want: []string{
			"Delivery 0 a,b,c 0 OK queued as rest",
			"Delivery 0 a 0 OK",
			"Bounce 1 b,c 1 no",
		}},
		{name: "relay, a success after a rejection", relay: true, parts: []error{no, nil, no}, want: []string{
			"Delivery 0 a,b,c 0 OK queued as rest",
			"Delivery 1 b 0 OK",
			"Bounce 0 a,c 1 no",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := func(context.Context, *Message) error { return Split(tt.parts) }
				inject := func(_ context.Context, m *Message) error {
					m.Meta["queue"] = "rest"
					if tt.relay {
						return nil
					}
					m.SetDue(time.Now().Add(time.Hour))
					return Split(tt.parts)
				}
				w := start(t, inject, setup{handlers: map[string]Handler{"rest": answer}, opts: Options{Configure: func(string) Config {
					c := tt.config
					c.Backoff.Jitter = -1
					return c
				}}})
				got := w.tellSplit(w.storeFor("a@example.com", "b@example.com", "c@example.com"))
				slices.Sort(tt.want)
				if !slices.Equal(got, tt.want) {
					t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(tt.want, "\n\t"))
				}
			})
		})
	}
}

// contentOf reads the content of an entry.
func (w *world) contentOf(e *spool.Entry) string {
	w.t.Helper()
	b, err := w.sp.Open(context.Background(), e.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	defer b.Close()
	content, err := io.ReadAll(spool.Content(e.Header, b, e.Skip))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(content)
}

// What succeeded has the changes of its handler, what did not is as it was
// received, and what was emitted is there once or not at all.
func TestSplitContent(t *testing.T) {
	sign := func(m *Message) error {
		h, err := m.Header()
		if err == nil {
			h.Prepend("X-Signed", "once")
		}
		return err
	}
	replace := func(m *Message) error { return m.SetContent(strings.NewReader("Subject: new\r\n\r\nnew\r\n")) }
	tests := []struct {
		name   string
		edit   func(m *Message) error
		parts  []error
		passed string // content
		emits  int
	}{
		{"edited", sign, []error{errors.New("down"), nil, nil}, "X-Signed: once\r\n" + mail, 1},
		{"edited, and all others end", sign, []error{nil, Reject(550, "no"), nil}, "X-Signed: once\r\n" + mail, 1},
		{"replaced", replace, []error{errors.New("down"), nil, nil}, "Subject: new\r\n\r\nnew\r\n", 1},
		{"replaced, and keeps the ID", replace, []error{nil, Reject(550, "no"), nil}, "Subject: new\r\n\r\nnew\r\n", 1},
		{"no success", replace, []error{errors.New("down"), Hold("x"), Drop("spam")}, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, func(ctx context.Context, m *Message) error {
					if m.Meta["tenant"] != "" || len(m.Envelope.Recipients) == 3 != (m.Attempt == 1) {
						t.Errorf("attempt %d sees what another one has left: %v, %v", m.Attempt, m.Meta, m.Envelope)
					}
					b, err := m.Open()
					if err != nil {
						return err
					}
					if content, err := io.ReadAll(b); err != nil || string(content) != mail {
						t.Errorf("attempt %d sees %q", m.Attempt, content)
					}
					m.Meta["tenant"] = "t"
					m.Envelope.Sender = "other@example.org"
					m.Envelope.Recipients[0].Address = "changed@example.net"
					if _, err := m.Emit(ctx, spool.Envelope{Recipients: []spool.Recipient{{Address: "x@copies.example"}}}, nil, strings.NewReader(mail)); err != nil {
						return err
					}
					if err := tt.edit(m); err != nil {
						return err
					}
					if m.Attempt > 1 {
						return errors.New("down")
					}
					return Split(tt.parts)
				}, setup{handlers: map[string]Handler{"*": func(context.Context, *Message) error { return Hold("arrived") }}})
				w.storeFor("a@example.com", "b@example.org", "c@example.com")
				time.Sleep(time.Hour) // attempts that fail leave nothing
				synctest.Wait()
				var passed, emits int
				for _, e := range w.entries() {
					switch {
					case e.Queue == Deferred:
						if got := w.contentOf(e); got != mail || e.Envelope.Sender != "" || len(e.Meta) != 0 {
							t.Errorf("what did not succeed has content %q, sender %q, metadata %v", got, e.Envelope.Sender, e.Meta)
						}
					case e.Queue == "copies.example":
						emits++
					default:
						passed++
						first := "b@example.org" // the first of its group names the queue
						if tt.parts[0] == nil {
							first = "changed@example.net"
						}
						if got := w.contentOf(e); got != tt.passed || e.Envelope.Sender != "other@example.org" ||
							e.Envelope.Recipients[0].Address != first || e.Queue != "t@"+domainOf(first) {
							t.Errorf("content %q, envelope %v in %s; want %q to %s first", got, e.Envelope, e.Queue, tt.passed, first)
						}
					}
				}
				if want := min(len(tt.passed), 1); passed != want || emits != tt.emits {
					t.Errorf("%d messages passed and %d were emitted, want %d and %d", passed, emits, want, tt.emits)
				}
			})
		})
	}
}

// A success that cannot be carried out fails for its recipients alone.
func TestSplitWithoutSuccess(t *testing.T) {
	const lost = `queue: no handler for queue "nowhere"; name one with Handle`
	tests := []struct {
		name  string
		edit  func(ctx context.Context, m *Message) error
		parts []error
		want  string // the records
	}{
		{"no queue", func(_ context.Context, m *Message) error { m.Meta["queue"] = "nowhere"; return nil },
			[]error{nil, Reject(550, "no"), nil}, "TransientFailure a,c " + lost + "; Bounce b no"},
		{"no queue, as another one", func(_ context.Context, m *Message) error { m.Meta["queue"] = "nowhere"; return nil },
			[]error{Reject(550, "no"), errors.New(lost), nil}, "TransientFailure b,c " + lost + "; Bounce a no"},
		{"no queue, as a later one", func(_ context.Context, m *Message) error { m.Meta["queue"] = "nowhere"; return nil },
			[]error{nil, Reject(550, "no"), errors.New(lost)}, "TransientFailure a,c " + lost + "; Bounce b no"},
		{"no queue, as all others", func(_ context.Context, m *Message) error { m.Meta["queue"] = "nowhere"; return nil },
			[]error{nil, errors.New(lost), nil}, "TransientFailure a,b,c " + lost},
		{"recipients", func(_ context.Context, m *Message) error {
			m.Envelope.Recipients = m.Envelope.Recipients[:2]
			return nil
		},
			[]error{nil, Reject(550, "no"), nil}, "TransientFailure a,c queue: a Split with 2 recipients left in an envelope of 3; change their addresses, not their number; Bounce b no"},
		{"header", func(_ context.Context, m *Message) error {
			h, err := m.Header()
			if err == nil {
				h.Set("bad name", "x")
			}
			return err
		}, []error{Reject(550, "no"), nil, nil}, "TransientFailure b,c "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, func(ctx context.Context, m *Message) error {
					m.Meta["queue"] = "rest"
					if err := tt.edit(ctx, m); err != nil {
						return err
					}
					return Split(tt.parts)
				}, setup{handlers: map[string]Handler{"rest": func(context.Context, *Message) error { return nil }}})
				id := w.storeFor("a@example.com", "b@example.com", "c@example.com")
				var got []string
				for _, r := range w.records {
					if r.Type != Reception {
						got = append(got, fmt.Sprintf("%s %s %s", r.Type, shortNames(r.Recipients), r.Response.Content))
					}
				}
				if all := strings.Join(got, "; "); !strings.HasPrefix(all, tt.want) {
					t.Errorf("records %s, want %s", all, tt.want)
				}
				if e := w.only(); e.ID != id || e.Queue != Deferred || e.Attempts != 1 {
					t.Errorf("%s is left in %s after %d attempts", e.ID, e.Queue, e.Attempts)
				}
			})
		})
	}
}

// Without a handler the success of some is the end of the road for them.
func TestSplitAtTheEndOfTheRoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(_ context.Context, m *Message) error {
			if len(m.Envelope.Recipients) == 1 {
				return nil
			}
			return Split([]error{nil, errors.New("down")})
		})
		id := w.storeFor("a@example.com", "b@example.com")
		w.only()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		want := []string{"Delivery 0 b 1 OK", "Delivery 1 a 0 OK", "TransientFailure 0 b 1 down"}
		if got := w.tellSplit(id); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
