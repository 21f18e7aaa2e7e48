package smtpserver

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"
)

// drop is what a stock session does with content.
func drop(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// A defect is a dialogue that go-smtp and a Listener end differently.
type defect struct {
	name  string
	send  string // behind EHLO; in one write
	stock string // the last replies, each by its beginning; "end" is the end of the connection, "only" stands for no other replies
	ours  string

	data      func(io.Reader) error // of the stock session; nil: drop
	configure func(*smtp.Server)
	opts      Options
}

const begun = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"

// limited is a message of exactly 100 octets.
var limited = strings.Repeat("12345678\r\n", 10)

var defects = []defect{
	{name: "a plain error of Data is permanent and told",
		send: begun + "DATA\r\n" + plain + ".\r\n", stock: "554 5.0.0 Error: transaction failed: disk full", ours: "250",
		data: func(r io.Reader) error { return errors.Join(drop(r), errors.New("disk full")) }},
	{name: "a wrapped SMTPError loses its code",
		send: begun + "DATA\r\n" + plain + ".\r\n", stock: "554", ours: "250",
		data: func(r io.Reader) error {
			drop(r)
			return fmt.Errorf("store: %w", &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "full"})
		}},
	{name: "a message of exactly the limit",
		send: begun + "DATA\r\n" + limited + ".\r\n", stock: "552", ours: "250",
		configure: func(s *smtp.Server) { s.MaxMessageBytes = 100 }, opts: Options{Limits: Limits{MessageSize: 100}}},
	{name: "a chunk without LF behind its command",
		send: begun + "BDAT 3000 LAST\r\n" + strings.Repeat("x", 2998) + "\r\n", stock: "500 5.4.0|end", ours: "250",
		opts: Options{Limits: Limits{LineLength: -1}}},
	{name: "commands in front of a long line",
		send: begun + "RSET\r\nNOOP " + strings.Repeat("x", 3000) + "\r\n", stock: "only|500 5.4.0|end", ours: "250|250|250|250"},
	{name: "an end of data behind CR CR LF",
		send: begun + "DATA\r\nx\r\r\n.\r\nNOOP\r\n", stock: "354", ours: "354|552 5.6.0|250"},
	{name: "nested MAIL", send: begun + "MAIL FROM:<evil@b.example>\r\n", stock: "250", ours: "503"},
	{name: "postmaster", send: "MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n", stock: "501", ours: "250"},
	{name: "a wrong sequence", send: "RCPT TO:<c@d.example>\r\n", stock: "502", ours: "503"},
	{name: "a domain that is none", send: "MAIL FROM:<a@-.->\r\n", stock: "250", ours: "501"},
	{name: "a fourth mistake", send: strings.Repeat("FOO\r\n", 4) + "NOOP\r\n", stock: "501 5.5.2|500 5.5.1|end", ours: "500|500|250"},
}

// TestDefectsStock shows, defect by defect, what go-smtp does by itself and what
// a Listener does. Where the first half fails, go-smtp has mended it.
func TestDefectsStock(t *testing.T) {
	for _, tt := range defects {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			t.Run("stock", func(t *testing.T) {
				t.Parallel() // each waits for silence
				data := tt.data
				if data == nil {
					data = drop
				}
				_, c := stock(t, tt.configure, data)
				c.judge(tt.send, tt.stock)
			})
			t.Run("ours", func(t *testing.T) {
				t.Parallel()
				opts := tt.opts
				opts.DeferredQueue = true
				h := serve(t, &opts)
				h.greeted().judge(tt.send, tt.ours)
			})
		})
	}
}

// judge sends what is given and compares the last replies. Replies are read until
// there are enough, and nothing comes for a moment.
func (c *client) judge(send, want string) {
	c.t.Helper()
	sent := make(chan struct{})
	go func() { // a pipe blocks until it was read
		defer close(sent)
		io.WriteString(c.conn, send)
	}()
	rest, only := strings.CutPrefix(want, "only|")
	wants := strings.Split(rest, "|")
	var got []string
	for {
		wait := patience
		if len(got) >= len(wants) {
			wait = 300 * time.Millisecond
		}
		c.conn.SetReadDeadline(time.Now().Add(wait))
		line, err := c.reply()
		if line != "" {
			got = append(got, line)
		}
		if ne, ok := err.(interface{ Timeout() bool }); ok && ne.Timeout() {
			break
		} else if err != nil {
			got = append(got, "end")
			break
		}
	}
	c.conn.Close()
	<-sent
	if len(got) < len(wants) || only && len(got) > len(wants) {
		c.t.Fatalf("replies %q, want the last to be %q", got, wants)
	}
	for i, got := range got[len(got)-len(wants):] {
		if !strings.HasPrefix(got, wants[i]) {
			c.t.Errorf("reply %q, want %s; last of all", got, wants[i])
		}
	}
}

// TestDefectsStockReadTimeout: go-smtp's ReadTimeout is one deadline for the whole
// content, however steadily it arrives.
func TestDefectsStockReadTimeout(t *testing.T) {
	dribble := func(c *client) (reply string) {
		c.envelope("a@example.org")
		c.cmd("DATA", "354")
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 10 {
				time.Sleep(20 * time.Second)
				if _, err := io.WriteString(c.conn, "line\r\n"); err != nil {
					return
				}
			}
			io.WriteString(c.conn, ".\r\n")
		}()
		reply, _ = c.reply()
		c.conn.Close()
		<-done
		return reply
	}
	synctest.Test(t, func(t *testing.T) {
		_, c := stock(t, func(s *smtp.Server) { s.ReadTimeout = time.Minute }, drop)
		wantPrefix(t, dribble(c), "554")
	})
	inBubble(t, &Options{DeferredQueue: true}, func(h *host, ln *pipeListener) {
		wantPrefix(h.t, dribble(h.pipe(ln)), "250 2.0.0 OK ids=")
		h.next()
	})
}

// TestDefectsStockLostCR: go-smtp's reader drops a CR that stands behind a dot at
// the beginning of a line.
func TestDefectsStockLostCR(t *testing.T) {
	const odd = "a\r\n.\rX\r\n"
	got := make(chan string, 1)
	_, c := stock(t, nil, func(r io.Reader) error {
		b, err := io.ReadAll(r)
		got <- string(b)
		return err
	})
	wantPrefix(t, c.data(odd, "a@example.org"), "250")
	if b := <-got; strings.Contains(b, "\r"+"X") {
		t.Errorf("go-smtp passes %q, CR and all", b)
	}
	h := serve(t, &Options{DeferredQueue: true, InvalidLineEndings: Allow})
	wantPrefix(t, h.greeted().data(odd, "a@example.org"), "250")
	if b := h.next().body(); b != "a\r\n\rX\r\n" {
		t.Errorf("the content is %q", b)
	}
}

// TestDefectsStock421: go-smtp goes on behind a 421 of its backend.
func TestDefectsStock421(t *testing.T) {
	_, c := stock(t, nil, func(r io.Reader) error {
		drop(r)
		return &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "closing"}
	})
	wantPrefix(t, c.data(plain, "a@example.org"), "421")
	c.cmd("NOOP", "250")
}
