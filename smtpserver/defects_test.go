package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// The tests in this file show what go-smtp does by itself, and that a Listener
// does not. Where the first part fails, go-smtp has mended its defect.

// A stockSession is a session on a go-smtp server as it comes.
type stockSession struct {
	data func(r io.Reader) error
}

func (*stockSession) Reset()                               {}
func (*stockSession) Logout() error                        { return nil }
func (*stockSession) Mail(string, *smtp.MailOptions) error { return nil }
func (*stockSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s *stockSession) Data(r io.Reader) error             { return s.data(r) }

// stock starts a go-smtp server and connects to it.
func stock(t *testing.T, configure func(*smtp.Server), data func(r io.Reader) error) (*smtp.Server, *client) {
	t.Helper()
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &stockSession{data}, nil }))
	srv.ErrorLog = errorLog{discardLogger()}
	if configure != nil {
		configure(srv)
	}
	ln := newPipeListener()
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.Serve(ln)
	}()
	c := newClient(t, ln.dial())
	c.conn.SetDeadline(time.Now().Add(time.Hour))
	t.Cleanup(func() {
		srv.Close()
		c.conn.Close()
		<-served
	})
	c.want("220")
	c.cmd("EHLO x", "250")
	return srv, c
}

// resetChunks begins a BDAT transaction, gives it up, and ends another.
func resetChunks(c *client, first, second string) {
	c.t.Helper()
	c.envelope("first@example.org")
	want := "250"
	if strings.Contains(first, "bare") {
		want = "552 5.6.0"
	}
	c.cmd(fmt.Sprintf("BDAT %d\r\n%s", len(first)+2, first), want)
	c.cmd("RSET", "250")
	c.envelope("second@example.org")
	c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(second), second))
}

func TestDefectsStockFalseReply(t *testing.T) {
	var calls atomic.Int32
	second, release := make(chan struct{}), make(chan struct{})
	_, c := stock(t, nil, func(r io.Reader) error {
		if calls.Add(1) == 1 {
			io.Copy(io.Discard, r)
			<-second
			return nil
		}
		io.Copy(io.Discard, r)
		close(second)
		<-release
		return errors.New("the second message is not stored")
	})
	resetChunks(c, "one", plain)
	c.want("250") // for what was not stored
	close(release)
}

// TestDefectsFalseReply: a BDAT transaction gets its own result, whatever became of the one before.
func TestDefectsFalseReply(t *testing.T) {
	h := serve(t, nil)
	c := h.greeted()
	for range 50 {
		resetChunks(c, "Subject: first", plain)
		got := c.want("250 2.0.0 OK ids=")
		if m := h.next(); m.body() != plain || m.env.Recipients[0].Address != "second@example.org" || !strings.Contains(got, m.id.String()) {
			t.Fatalf("reply %q, message %+v", got, m)
		}
		resetChunks(c, "bare\nLF", plain)
		c.want("250 2.0.0 OK ids=")
		h.next()
		resetChunks(c, "Subject: first", "bare\nLF\r\n")
		c.want("552 5.6.0")
	}
	h.stopScheduler()
	h.nothing()
}

// TestDefectsEmptyChunks: transactions that are reset before their goroutine has read anything.
func TestDefectsEmptyChunks(t *testing.T) {
	h := serve(t, nil)
	c := h.greeted()
	for range 50 {
		c.envelope("first@example.org")
		c.send("BDAT 0\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<second@example.org>\r\nBDAT 3\r\na\r\nBDAT 0\r\nBDAT 3 LAST\r\nb\r\n")
		for range 6 {
			c.want("250 2.")
		}
		got := c.want("250 2.0.0 OK ids=")
		if m := h.next(); m.body() != "a\r\nb\r\n" || !strings.Contains(got, m.id.String()) {
			t.Fatalf("reply %q, message %+v", got, m)
		}
	}
	h.stopScheduler()
	h.nothing()
}

// TestDefectsChunksGivenUp: whatever ends a BDAT transaction, the next one is not touched.
func TestDefectsChunksGivenUp(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Limits: Limits{MessageSize: 100}})
	c := h.greeted()
	for _, tt := range []struct{ line, reply string }{
		{"RSET", "250"},
		{"EHLO client.example", "250"},
		{"BDAT 101 LAST\r\n" + strings.Repeat("x", 99), "552 5.3.4"},
	} {
		c.envelope("first@example.org")
		c.cmd("BDAT 3\r\nx", "250")
		c.cmd("MAIL FROM:<>", "503")
		c.cmd("DATA", "503")
		c.cmd(tt.line, tt.reply)
		c.cmd("BDAT 0 LAST", "503")
		wantPrefix(t, c.data(plain, "second@example.org"), "250")
		if m := h.next(); m.body() != plain || m.env.Recipients[0].Address != "second@example.org" {
			t.Errorf("%s: message %+v", tt.line, m)
		}
	}
	c.envelope("first@example.org")
	c.cmd("BDAT 3\r\nx", "250")
	c.cmd("QUIT", "221")
	c.ended()
	h.stopScheduler()
	h.nothing()
}

func TestDefectsStockTruncatedChunk(t *testing.T) {
	result := make(chan error, 1)
	_, c := stock(t, nil, func(r io.Reader) error {
		_, err := io.ReadAll(r)
		result <- err
		return err
	})
	c.envelope("a@example.org")
	c.send("BDAT 1000 LAST\r\nhalf")
	c.conn.Close()
	if err := <-result; err != nil {
		t.Errorf("go-smtp reports half a chunk: %v", err)
	}
}

// TestDefectsTruncatedChunk: half a chunk is no message, in clear and under TLS.
func TestDefectsTruncatedChunk(t *testing.T) {
	cert, pool := certificate(t)
	for _, last := range []string{"", " LAST"} {
		for _, secure := range []bool{false, true} {
			h := serve(t, &Options{DeferredQueue: true, TLS: TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}}}})
			c := h.greeted()
			if secure {
				c = c.startTLS(&tls.Config{RootCAs: pool, ServerName: "mx.example.com"})
				c.cmd("EHLO x", "250")
			}
			c.envelope("a@example.org")
			c.send("BDAT 1000" + last + "\r\nhalf")
			if err := c.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if replies, _ := io.ReadAll(c.r); strings.Contains(string(replies), "ids=") {
				t.Errorf("half a chunk was accepted: %q", replies)
			}
			h.nothing()
		}
	}
}

func TestDefectsStockBodyAsCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := stock(t, func(s *smtp.Server) { s.ReadTimeout = time.Minute }, func(r io.Reader) error {
			_, err := io.ReadAll(r)
			return err
		})
		c.envelope("a@example.org")
		c.cmd("DATA", "354")
		c.send("Subject: x\r\n")
		c.want("554") // a minute later
		c.cmd("NOOP", "250")
	})
}

// TestDefectsBodyIsNotCommands: what follows a timeout inside content is not executed.
func TestDefectsBodyIsNotCommands(t *testing.T) {
	inBubble(t, &Options{DeferredQueue: true}, func(h *host, ln *pipeListener) {
		for _, begin := range []string{"DATA\r\n", "BDAT 100 LAST\r\n"} {
			c := h.pipe(ln)
			c.envelope("a@example.org")
			c.send(begin)
			if begin[0] == 'D' {
				c.want("354")
			}
			c.send("Subject: x\r\n")
			before := time.Now()
			c.want("421 4.4.2")
			if d := time.Since(before); d != time.Minute {
				h.t.Errorf("timeout after %v, want 1m", d)
			}
			if _, err := io.WriteString(c.conn, "NOOP\r\n"); err == nil {
				c.ended()
			}
		}
		h.nothing()
	})
}

func TestDefectsStockShutdown(t *testing.T) {
	srv, c := stock(t, nil, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown with an idle connection: %v", err)
	}
	if err := srv.Close(); !errors.Is(err, smtp.ErrServerClosed) {
		t.Errorf("Close: %v", err)
	}
	c.envelope("a@example.org")
}

func TestDefectsShutdown(t *testing.T) {
	inBubble(t, nil, func(h *host, ln *pipeListener) {
		idle, busy := h.pipe(ln), h.pipe(ln)
		busy.envelope("a@example.org")
		down := make(chan error, 1)
		go func() { down <- h.l.Shutdown(context.Background()) }()
		idle.want("421 4.3.2")
		idle.ended()
		select {
		case err := <-down:
			h.t.Fatalf("Shutdown did not wait for a transaction: %v", err)
		default:
		}
		busy.cmd("DATA", "354")
		busy.send(plain + ".\r\nMAIL FROM:<>\r\n")
		busy.want("250")
		busy.want("421 4.3.2")
		busy.ended()
		if err := <-down; err != nil {
			h.t.Errorf("Shutdown: %v", err)
		}
		h.next()
	})
}

func TestDefectsShutdownTimeout(t *testing.T) {
	inBubble(t, nil, func(h *host, ln *pipeListener) {
		c := h.pipe(ln)
		c.envelope("a@example.org")
		c.cmd("DATA", "354")
		begin := time.Now()
		if err := h.l.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
			h.t.Errorf("Shutdown: %v, want DeadlineExceeded", err)
		}
		if d := time.Since(begin); d != 30*time.Second {
			h.t.Errorf("Shutdown took %v, want 30s", d)
		}
		io.Copy(io.Discard, c.r)
		if err := h.l.Shutdown(context.Background()); err != nil {
			h.t.Errorf("a second Shutdown: %v", err)
		}
		if err := h.l.Serve(newPipeListener()); !errors.Is(err, ErrServerClosed) {
			h.t.Errorf("Serve after Shutdown: %v", err)
		}
		h.nothing()
	})
}

// TestDefectsCloseWaitsForCommit: Close returns only when the commit in flight has its
// outcome, and the message that was committed is injected.
func TestDefectsCloseWaitsForCommit(t *testing.T) {
	inBubble(t, nil, func(h *host, ln *pipeListener) {
		c := h.pipe(ln)
		c.envelope("a@example.org")
		c.cmd("DATA", "354")
		h.sp.SetDelay(20 * time.Second)
		c.send(plain + ".\r\n")
		synctest.Wait()
		begin := time.Now()
		h.l.Close()
		if d := time.Since(begin); d != 20*time.Second {
			h.t.Errorf("Close took %v, want 20s", d)
		}
		h.sp.SetDelay(0)
		h.next()
	})
}

// TestDefectsPanics: a panic in what the host brings ends one connection.
func TestDefectsPanics(t *testing.T) {
	var where atomic.Value
	where.Store("")
	trip := func(name string) error {
		if where.Load() == name {
			panic(name)
		}
		return nil
	}
	h := serve(t, &Options{DeferredQueue: true, Hooks: Hooks{
		Connect: func(context.Context, *Session) error { return trip("connect") },
		Hello:   func(context.Context, *Session) error { return trip("hello") },
		Mail:    func(context.Context, *Session, *spool.Envelope) error { return trip("mail") },
		Rcpt:    func(context.Context, *Session, *spool.Recipient) error { return trip("rcpt") },
	}, Batch: func(env spool.Envelope) [][]spool.Recipient {
		trip("batch")
		return queue.PerRecipient(env)
	}})
	script := []struct{ at, line, reply string }{
		{"connect", "", "220"}, {"hello", "EHLO x", "250"}, {"mail", "MAIL FROM:<>", "250"},
		{"rcpt", "RCPT TO:<a@example.org>", "250"}, {"", "DATA", "354"}, {"batch", plain + ".", "250"},
	}
	for _, name := range []string{"connect", "hello", "mail", "rcpt", "batch"} {
		where.Store(name)
		c := h.dial()
		for _, step := range script {
			if step.line != "" {
				c.send(step.line + "\r\n")
			}
			if step.at == name {
				c.want("421 4.3.0")
				break
			}
			c.want(step.reply)
		}
		c.ended()
	}
	h.nothing()
	where.Store("")
	wantPrefix(t, h.greeted().data(plain, "a@example.org"), "250")
}

// defectTalks are the talks about what go-smtp does wrong, or that break where it does.
var defectTalks = []string{
	"the spool gets full", "the spool gets full before the chunk", // an error of the host's was a permanent 554
	"RSET between chunks", "EHLO between chunks", "other commands between chunks", "a refused chunk is no commands",
	"the client goes in a chunk", "the client goes in the content",
	"lines", "long lines in chunks", "CR and LF in two chunks",
	"bare CR", "smuggled by CR", "LF . LF", "CR LF . LF", "LF . CR LF",
	"of exactly the largest size", "too large", "too large in chunks", "a chunk that is too large is not the end of the session",
	"nested MAIL", "postmaster without a domain", "quoted local parts, literals, source routes, case", "commands before EHLO",
	"unknown parameters", "SIZE of many digits", "SIZE beyond 4 GiB", "AUTH that cannot be read", "too many errors",
	"addresses beyond ASCII without SMTPUTF8", "replies are ASCII", "HELO",
}

// TestDefectsTalks plays those.
func TestDefectsTalks(t *testing.T) {
	cert, pool := certificate(t)
	byName := map[string]talk{}
	for _, row := range slices.Concat(talkTables...) {
		byName[row.name] = row
	}
	for _, name := range defectTalks {
		row, ok := byName[name]
		if !ok {
			t.Errorf("there is no talk %q", name)
			continue
		}
		t.Run(name, func(t *testing.T) { row.run(t, cert, pool) })
	}
}
