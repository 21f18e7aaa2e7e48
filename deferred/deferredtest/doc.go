// Package deferredtest tests policies: the inject callback and the handlers of
// queues, through real SMTP in memory and in virtual time.
//
// # Usage
//
// Call Start inside synctest.Test, send, let time pass, look at the records:
//
//	func TestPolicy(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			srv := deferredtest.Start(t, inject, nil)
//			if err := srv.Send("a@example.com", []string{"b@example.net"}, msg); err != nil {
//				t.Fatal(err)
//			}
//			srv.Advance(time.Hour) // of retries, in milliseconds
//			if got := srv.Records(queue.Delivery); len(got) != 1 {
//				t.Errorf("delivered %d times", len(got))
//			}
//		})
//	}
//
// A Scheduler with handlers, and what else queue.Options say, is tested with
// Serve. A callback alone, without a server, is called with NewMessage.
//
// # What is real
//
// The listener, the scheduler, the client and what they say to each other are
// those of a host; so are limits, hooks and the relay check. The spool is in
// memory, the network is net.Pipe, and time is that of the bubble: it passes only
// in Advance, and where a handler or the test waits for it.
//
// # Peers
//
// A peer without an IP counts as loopback: clients come from 127.0.0.1 and
// the server is 127.0.0.1:2525, in metadata, records and trace fields as in the
// relay check.
package deferredtest
