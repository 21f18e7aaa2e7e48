package prometheus

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

var (
	long   = flag.Bool("long", false, "have a real Prometheus scrape, and promtool check")
	update = flag.Bool("update", false, "write testdata/metrics.txt anew")
)

// start runs a scheduler whose callback and handler do what the recipient says.
func start(t *testing.T, sp spool.Spool) *queue.Scheduler {
	t.Helper()
	sched, err := queue.NewScheduler(sp, func(_ context.Context, m *queue.Message) error {
		switch to, _, _ := strings.Cut(m.Envelope.Recipients[0].Address, "@"); to {
		case "bounce":
			return queue.Reject(550, "no")
		case "retry":
			return queue.Reject(451, "later")
		case "hold":
			return queue.Hold("look")
		}
		return nil
	}, &queue.Options{Logger: slog.New(slog.DiscardHandler), Record: func(context.Context, queue.Record) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := sched.Handle("*", func(_ context.Context, m *queue.Message) error {
		if strings.HasPrefix(m.Envelope.Recipients[0].Address, "ok@") {
			return nil
		}
		return errors.New("down")
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sched.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return sched
}

func submit(t *testing.T, sched *queue.Scheduler, to ...string) {
	t.Helper()
	for _, to := range to {
		env := spool.Envelope{Sender: "a@example.org", Recipients: []spool.Recipient{{Address: to}}}
		if _, err := sched.Submit(t.Context(), env, map[string]string{"tenant": "acme"}, strings.NewReader("Subject: x\r\n\r\nx\r\n")); err != nil {
			t.Fatal(err)
		}
	}
}

func register(t *testing.T, sched *queue.Scheduler, opts *Options) *prometheus.Registry {
	t.Helper()
	c, err := NewCollector(sched, opts)
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(c); err != nil {
		t.Fatal(err)
	}
	return reg
}

// tenants knows the tenant of submit.
func tenants(class string) string {
	if class == "acme" {
		return "ACME"
	}
	return ""
}

// expose returns all metrics as they are scraped, but for buckets and comments.
func expose(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if h := m.GetHistogram(); h != nil {
				value = float64(h.GetSampleCount())
			}
			fmt.Fprintf(&b, "%s{%s} %v\n", f.GetName(), strings.Join(labels, ","), value)
		}
	}
	return b.String()
}

// TestMetrics compares what some mail leaves with a golden file.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sched := start(t, spool.NewMemory())
		submit(t, sched, "a@example.com", "b@example.com", "c@example.net", "ok@example.net", "bounce@example.com", "retry@example.com", "hold@example.com")
		synctest.Wait()
		time.Sleep(30 * time.Second)
		got := expose(t, register(t, sched, &Options{Classes: tenants}))
		golden := filepath.Join("testdata", "metrics.txt")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
}

// TestDelivered: a message that is rebound and then delivered is delivered once, and so is
// one that ends with the callback, where there are no handlers.
func TestDelivered(t *testing.T) {
	ok := func(context.Context, *queue.Message) error { return nil }
	for _, tt := range []struct {
		handlers           bool
		rebound, delivered int
	}{{true, 2, 2}, {false, 0, 2}} {
		synctest.Test(t, func(t *testing.T) {
			sched, err := queue.NewScheduler(spool.NewMemory(), ok, &queue.Options{Logger: slog.New(slog.DiscardHandler), Record: func(context.Context, queue.Record) error { return nil }})
			if err != nil {
				t.Fatal(err)
			}
			if tt.handlers {
				if err := sched.Handle("*", ok); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer synctest.Wait()
			defer cancel()
			go sched.Run(ctx)
			submit(t, sched, "a@example.com", "b@example.net")
			synctest.Wait()
			text := expose(t, register(t, sched, nil))
			for name, want := range map[string]int{"rebound": tt.rebound, "delivered": tt.delivered} {
				if line := fmt.Sprintf("deferredqueue_messages_%s_total{} %d\n", name, want); !strings.Contains(text, line) {
					t.Errorf("handlers %t: %q is missing in\n%s", tt.handlers, line, text)
				}
			}
		})
	}
}

// openSpool opens an embedded spool, which has metrics of its own.
func openSpool(t *testing.T) *boltspool.Spool {
	t.Helper()
	sp, err := boltspool.Open(filepath.Join(t.TempDir(), "spool"), &boltspool.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sp.Close() })
	return sp
}

func TestLint(t *testing.T) {
	sched := start(t, openSpool(t))
	submit(t, sched, "a@example.com", "retry@example.com")
	problems, err := testutil.GatherAndLint(register(t, sched, &Options{Classes: tenants}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestManyQueues: series are bounded, and nothing is missing from their sum.
func TestManyQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sched := start(t, spool.NewMemory())
		for i := range 30 {
			for range i + 1 {
				submit(t, sched, fmt.Sprintf("a@%02d.example", i))
			}
		}
		synctest.Wait()
		lines := func(o *Options) (n, sum int, text string) {
			for line := range strings.Lines(expose(t, register(t, sched, o))) {
				if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(name, "deferredqueue_scheduled_messages") {
					var v int
					fmt.Sscan(value, &v)
					n, sum, text = n+1, sum+v, text+line
				}
			}
			return n, sum, text
		}
		for _, tt := range []struct {
			opts Options
			want int
		}{
			{Options{}, 21}, {Options{MaxQueues: 3}, 4}, {Options{MaxQueues: -1}, 1}, {Options{MaxQueues: 3, Queues: []string{"acme@00.example"}}, 5}, {Options{MaxQueues: 100}, 30},
		} {
			n, sum, text := lines(&tt.opts)
			if n != tt.want || sum != 30*31/2 {
				t.Errorf("%+v: %d series with %d messages, want %d with 465\n%s", tt.opts, n, sum, tt.want, text)
			}
			if tt.opts.MaxQueues == 3 && !strings.Contains(text, `queue="acme@29.example"`) {
				t.Errorf("the largest has no series:\n%s", text)
			}
		}
	})
}

func TestOptions(t *testing.T) {
	if _, err := NewCollector(nil, nil); err == nil {
		t.Error("no scheduler was accepted")
	}
	sched := start(t, spool.NewMemory())
	if _, err := NewCollector(sched, &Options{MaxQueues: 1e6}); err == nil {
		t.Error("a million series were accepted")
	}
	reg := prometheus.NewRegistry()
	for _, name := range []string{"one", "two"} {
		c, err := NewCollector(sched, &Options{Labels: prometheus.Labels{"scheduler": name}})
		if err != nil {
			t.Fatal(err)
		}
		if err := reg.Register(c); err != nil {
			t.Error(err)
		}
	}
}

// Scrapes come while everything runs.
func TestConcurrent(t *testing.T) {
	sched := start(t, spool.NewMemory())
	reg := register(t, sched, nil)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				submit(t, sched, "a@example.com", "bounce@example.com")
			}
		})
		all.Go(func() {
			for range 20 {
				if _, err := reg.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkScrape(b *testing.B) {
	sp := spool.NewMemory()
	sched, err := queue.NewScheduler(sp, func(context.Context, *queue.Message) error { return nil }, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	for i := range 10_000 {
		w, err := sp.Create(b.Context(), 0)
		if err != nil {
			b.Fatal(err)
		}
		e := &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: fmt.Sprintf("%d.example", i), Class: "-", Received: now, Due: now, Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "a@b"}}}}
		if errs := sp.Apply(b.Context(), spool.Unit{{Op: spool.Insert, Entry: e, Stage: w}}); errs != nil {
			b.Fatal(errs)
		}
	}
	c, err := NewCollector(sched, nil)
	if err != nil {
		b.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	for b.Loop() {
		if _, err := reg.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestClasses: a class may be who authenticated. It has the label that the host gives it,
// and nothing of it is seen without one.
func TestClasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sched := start(t, spool.NewMemory())
		submit(t, sched, "retry@example.com")
		for _, meta := range []map[string]string{{"authn_id": "ada@example.org"}, {"authn_id": "bob@example.org"}, {"received_from": "192.0.2.7:25"}} {
			env := spool.Envelope{Recipients: []spool.Recipient{{Address: "retry@example.com"}}}
			if _, err := sched.Submit(t.Context(), env, meta, strings.NewReader("Subject: x\r\n\r\nx\r\n")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if text := expose(t, register(t, sched, nil)); strings.Contains(text, "class") {
			t.Errorf("there are classes that nobody asked for:\n%s", text)
		}
		text := expose(t, register(t, sched, &Options{Classes: tenants}))
		for _, want := range []string{`waiting_messages{class="ACME",queue="` + queue.Deferred + `"} 1`, `waiting_messages{class="(other)",queue="` + queue.Deferred + `"} 3`} {
			if !strings.Contains(text, "deferredqueue_class_"+want) {
				t.Errorf("%s is missing in\n%s", want, text)
			}
		}
		for _, never := range []string{"example.org", "192.0.2"} {
			if strings.Contains(text, never) {
				t.Errorf("%s is a label:\n%s", never, text)
			}
		}
	})
}

// TestLabels: names of queues and classes come from mail, and none of them takes the
// metrics of the others away.
func TestLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sched := start(t, spool.NewMemory())
		for _, queue := range []string{"caf\xe9.example", "caf\xe8.example", Other, "1.example"} {
			for _, tenant := range []string{"t\xe9", "t\xe8"} {
				env := spool.Envelope{Recipients: []spool.Recipient{{Address: "a@x.example"}}}
				meta := map[string]string{"queue": queue, "tenant": tenant}
				if _, err := sched.Submit(t.Context(), env, meta, strings.NewReader("Subject: x\r\n\r\nx\r\n")); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		for _, most := range []int{-1, 1, 2, 20} {
			sum := 0
			for line := range strings.Lines(expose(t, register(t, sched, &Options{MaxQueues: most}))) {
				if name, value, _ := strings.Cut(strings.TrimSpace(line), "} "); strings.HasPrefix(name, "deferredqueue_scheduled_messages") {
					var v int
					fmt.Sscan(value, &v)
					sum += v
				}
			}
			if sum != 8 {
				t.Errorf("with MaxQueues %d: %d messages, want 8", most, sum)
			}
		}
	})
}
