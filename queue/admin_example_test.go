package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// exampleSpool is a scheduler that does not run yet, with a message for each of these
// addresses in the deferred queue. It writes its records but for those of receptions.
func exampleSpool(addresses ...string) (*queue.Scheduler, []spool.ID) {
	done := func(ctx context.Context, m *queue.Message) error { return nil }
	record := func(ctx context.Context, r queue.Record) error {
		if r.Type != queue.Reception {
			fmt.Println(r.Type, r.Recipients[0], r.Response.Content)
		}
		return nil
	}
	s, err := queue.NewScheduler(spool.NewMemory(), done, &queue.Options{Record: record})
	if err != nil {
		fmt.Println(err)
	}
	if err := s.Handle("*", done); err != nil {
		fmt.Println(err)
	}
	var all []spool.ID
	for _, address := range addresses {
		ids, err := s.Submit(context.Background(), toOne(address), nil, strings.NewReader("Subject: hello\n\nHi\n"))
		if err != nil {
			fmt.Println(err)
		}
		all = append(all, ids...)
	}
	return s, all
}

// runBriefly runs a scheduler until it has nothing to do any more.
func runBriefly(s *queue.Scheduler) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for st := s.Stats(); st.Records > 0 || st.Ready+st.Scheduled+st.Final+int64(st.Running) > 0; st = s.Stats() {
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-done; err != nil {
		fmt.Println(err)
	}
}

func ExampleScheduler_Admin() {
	s, _ := exampleSpool("bob@example.com", "ann@example.net", "joe@example.com")
	r, err := s.Admin().Drop(context.Background(), queue.Filter{Domain: "example.com"}, "sent by mistake")
	fmt.Println(r.Done, "dropped,", r.RunningHere+r.OwnedElsewhere, "busy,", r.Failed, "failed,", err)
	// Output: 2 dropped, 0 busy, 0 failed, <nil>
}

func ExampleAdmin_List() {
	s, _ := exampleSpool("bob@example.com", "ann@example.net", "joe@example.com")
	admin := s.Admin()
	for after := (spool.ID{}); ; {
		page, err := admin.List(context.Background(), queue.Filter{Domain: "example.com"}, after, 100)
		if err != nil {
			fmt.Println(err)
			return
		}
		if len(page) == 0 {
			break
		}
		for _, m := range page {
			fmt.Println(m.Envelope.Recipients[0].Address, m.State, m.Place, m.Attempts)
		}
		after = page[len(page)-1].ID
	}
	// Unordered output:
	// bob@example.com queued spool 0
	// joe@example.com queued spool 0
}

func ExampleAdmin_Inspect() {
	s, ids := exampleSpool("bob@example.com")
	m, err := s.Admin().Inspect(context.Background(), ids[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Queue, m.Envelope.Sender, m.Header.Get("Subject"), m.Size)
	// Output: deferred_smtp_inject.kumomta.internal news@example.org hello 19
}

func ExampleAdmin_Open() {
	s, ids := exampleSpool("bob@example.com")
	content, err := s.Admin().Open(context.Background(), ids[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	defer content.Close()
	text, err := io.ReadAll(content)
	fmt.Printf("%q %v\n", text, err)
	// Output: "Subject: hello\n\nHi\n" <nil>
}

func ExampleAdmin_Hold() {
	s, _ := exampleSpool("bob@example.com", "ann@example.net")
	r, err := s.Admin().Hold(context.Background(), queue.Filter{Recipient: "bob@"}, "asked by legal")
	fmt.Println(r.Done, err)
	runBriefly(s)
	// Unordered output:
	// 1 <nil>
	// TransientFailure bob@example.com hold: asked by legal
	// Delivery ann@example.net OK queued as example.net
	// Delivery ann@example.net OK
}

func ExampleAdmin_Release() {
	s, _ := exampleSpool("bob@example.com")
	ctx, admin := context.Background(), s.Admin()
	if _, err := admin.Hold(ctx, queue.Filter{All: true}, "maintenance"); err != nil {
		fmt.Println(err)
	}
	if _, err := admin.Release(ctx, queue.Filter{All: true}, "done with it"); err != nil {
		fmt.Println(err)
	}
	runBriefly(s)
	// Output:
	// TransientFailure bob@example.com hold: maintenance
	// AdminRebind bob@example.com released by an operator: done with it
	// Delivery bob@example.com OK queued as example.com
	// Delivery bob@example.com OK
}

func ExampleAdmin_Bounce() {
	s, _ := exampleSpool("bob@example.com")
	r, err := s.Admin().Bounce(context.Background(), queue.Filter{Domain: "example.com"}, "the domain is gone")
	fmt.Println(r.Done, err)
	runBriefly(s)
	// Output:
	// 1 <nil>
	// AdminBounce bob@example.com bounced by an operator: the domain is gone
}

func ExampleAdmin_Drop() {
	s, ids := exampleSpool("bob@example.com")
	r, err := s.Admin().Drop(context.Background(), queue.Filter{IDs: ids}, "spam")
	fmt.Println(r.Done, err)
	_, err = s.Admin().Drop(context.Background(), queue.Filter{}, "spam")
	fmt.Println(err)
	// Output:
	// 1 <nil>
	// queue: Drop: the Filter is empty; set All to select every message
}

func ExampleAdmin_Retry() {
	attempts := make(chan int, 2)
	inject := func(ctx context.Context, m *queue.Message) error {
		attempts <- m.Attempt
		return errors.New("the database is away") // tried again in a minute
	}
	failed := make(chan queue.Record, 2)
	record := func(ctx context.Context, r queue.Record) error {
		switch r.Type {
		case queue.TransientFailure:
			failed <- r
		case queue.AdminRebind:
			fmt.Println(r.Type, r.Attempts, r.Response.Content)
		}
		return nil
	}
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: record})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	ids, err := s.Submit(ctx, toOne("bob@example.com"), nil, strings.NewReader("Subject: hello\n\nHi\n"))
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println("attempt", <-attempts)
	<-failed
	for r := (queue.Result{}); r.Done == 0; { // its handler may not be done with yet
		if r, err = s.Admin().Retry(ctx, queue.Filter{IDs: ids}, "the database is back"); err != nil {
			fmt.Println(err)
			break
		}
	}
	fmt.Println("attempt", <-attempts)
	stop()
	<-done
	// Output:
	// attempt 1
	// AdminRebind 1 retried by an operator: the database is back
	// attempt 2
}

func ExampleAdmin_Rebind() {
	s, _ := exampleSpool("bob@example.com")
	ctx, admin := context.Background(), s.Admin()
	_, err := admin.Rebind(ctx, queue.Filter{Queue: queue.Deferred}, "relay", "around the policy", nil)
	fmt.Println(err)
	r, err := admin.Rebind(ctx, queue.Filter{Queue: queue.Deferred}, "relay", "around the policy", &queue.RebindOptions{Unprocessed: true})
	fmt.Println(r.Done, err)
	// Output:
	// queue: Rebind: the inject callback has not processed the message; RebindOptions.Unprocessed moves it on all the same
	// 1 <nil>
}

func ExampleAdmin_Suspend() {
	s, _ := exampleSpool()
	ctx, admin := context.Background(), s.Admin()
	err := admin.Suspend(ctx, "example.com", queue.SuspendOptions{
		Reason: "they ask us to wait", Until: time.Now().Add(2 * time.Hour),
	})
	fmt.Println(err)
	list, err := admin.Suspensions(ctx)
	for _, sus := range list {
		fmt.Println(sus.Queue, sus.Reason, sus.Until.Sub(sus.Since).Round(time.Hour))
	}
	fmt.Println(err)
	// Output:
	// <nil>
	// example.com they ask us to wait 2h0m0s
	// <nil>
}

func ExampleAdmin_Resume() {
	s, _ := exampleSpool()
	ctx, admin := context.Background(), s.Admin()
	fmt.Println(admin.Suspend(ctx, "example.com", queue.SuspendOptions{Reason: "down"}))
	fmt.Println(admin.Resume(ctx, "example.com"))
	fmt.Println(admin.Resume(ctx, "example.com"))
	// Output:
	// <nil>
	// <nil>
	// queue: Resume("example.com"): the queue is not suspended: spool: not found
}

func ExampleAdmin_Suspensions() {
	s, _ := exampleSpool()
	ctx, admin := context.Background(), s.Admin()
	for _, name := range []string{"example.net", queue.Deferred} {
		if err := admin.Suspend(ctx, name, queue.SuspendOptions{Reason: "maintenance"}); err != nil {
			fmt.Println(err)
		}
	}
	list, err := admin.Suspensions(ctx)
	for _, sus := range list {
		fmt.Println(sus.Queue, sus.Reason, sus.Until.IsZero())
	}
	fmt.Println(err)
	// Output:
	// deferred_smtp_inject.kumomta.internal maintenance true
	// example.net maintenance true
	// <nil>
}
