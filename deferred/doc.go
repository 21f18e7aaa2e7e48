// Package deferred is the front door of deferredqueue: mail is answered 250 as
// soon as it is safely stored, and the host's policy looks at it afterwards. A
// file with a policy needs no other import.
//
// # Usage
//
//	sp, err := boltspool.Open("spool", nil)
//	defer sp.Close()
//	sched, err := queue.NewScheduler(sp, inject, nil)
//	l, err := deferred.NewListener(sched, &deferred.Options{DeferredQueue: true})
//	err = deferred.Run(ctx, l) // 127.0.0.1:2525, until ctx is done
//
// inject is the host's policy. It runs after the 250, on each message, in the
// queue [Queue]:
//
//	func inject(ctx context.Context, m *deferred.Message) error {
//		h, err := m.Header()
//		if err != nil {
//			return err // temporary: tried again with exponential backoff
//		}
//		if h.Get("Subject") == "" {
//			return deferred.Reject(554, "5.6.0 no subject")
//		}
//		m.Meta["tenant"] = "customers"
//		return nil // on to the queue that the metadata names
//	}
//
// # What the host may rely on
//
// A message that got its 250 reaches inject, or a record says why not. inject
// runs at least once for each message: a crash between its nil and the commit of
// it repeats the call, and [Message.ID] is the key for idempotence. What it
// changes becomes durable with its success and vanishes with its failure. Only
// nil moves a message on.
//
// # Testing
//
// Package deferredtest runs a policy behind a real SMTP server, in memory and in
// virtual time: an hour of retries takes milliseconds.
package deferred
