package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

func TestTestMessage(t *testing.T) {
	for size := minSize; size < minSize+400; size++ {
		m := testMessage(size)
		if len(m) != size || !bytes.HasSuffix(m, []byte("\r\n")) || !bytes.Contains(m, []byte("\r\n\r\n")) {
			t.Fatalf("%d octets, want %d: ...%q", len(m), size, m[len(m)-80:])
		}
		if n := bytes.Count(m, []byte("\n")); n != bytes.Count(m, []byte("\r\n")) || n != bytes.Count(m, []byte("\r")) {
			t.Fatalf("%d octets: a CR or LF stands alone", size)
		}
	}
	m := testMessage(100 << 10)
	for line := range bytes.Lines(m) {
		if len(line) > lineLength+2 {
			t.Fatalf("a line of %d octets", len(line))
		}
	}
	if n := bytes.Count(m, []byte("\r\n.")); n != 6 {
		t.Errorf("%d lines begin with a dot, want 6", n)
	}
}

func TestStuffed(t *testing.T) {
	for _, tt := range []struct{ message, want string }{
		{"a\r\n", "a\r\n.\r\n"},
		{".\r\n", "..\r\n.\r\n"},
		{"a\r\n.b\r\n..\r\n", "a\r\n..b\r\n...\r\n.\r\n"},
	} {
		if got := string(stuffed([]byte(tt.message))); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.message, got, tt.want)
		}
	}
}

// A recording is a go-smtp host that keeps what it is sent.
type recording struct {
	mu struct {
		sync.Mutex
		messages []string
		rcpts    []string
		size     []int64
		tls      int
	}
}

func (r *recording) Mail(_ string, opts *smtp.MailOptions) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.size = append(r.mu.size, opts.Size)
	return nil
}

func (r *recording) Rcpt(to string, _ *smtp.RcptOptions) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.rcpts = append(r.mu.rcpts, to)
	return nil
}

func (r *recording) Data(body io.Reader) error {
	b, err := io.ReadAll(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.messages = append(r.mu.messages, string(b))
	return err
}

func (r *recording) Reset()        {}
func (r *recording) Logout() error { return nil }

// startRecording serves go-smtp as that mode needs it.
func startRecording(t *testing.T, mode string) (*recording, string) {
	t.Helper()
	e := &environment{subjectConfig: subjectConfig{Mode: mode}}
	if hasTLS(mode) {
		cert, err := selfSigned()
		if err != nil {
			t.Fatal(err)
		}
		e.tls = serverTLS(cert)
	}
	s := newStockHost(e, nil)
	rec := &recording{}
	s.server.Backend = smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		if _, ok := c.TLSConnectionState(); ok {
			rec.mu.Lock()
			rec.mu.tls++
			rec.mu.Unlock()
		}
		return rec, nil
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.serve(ln) }()
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return rec, ln.Addr().String()
}

// TestLoad sends in every mode to a real server, and compares what arrives.
func TestLoad(t *testing.T) {
	for _, mode := range modes {
		for _, pipelining := range []bool{true, false} {
			name := mode
			if !pipelining {
				name += ", one command at a time"
			}
			t.Run(name, func(t *testing.T) {
				rec, addr := startRecording(t, mode)
				const size, messages, recipients = 60_000, 7, 3
				l, err := newLoader(loadConfig{
					Addr: addr, Mode: mode, Sessions: 2, Size: size, Recipients: recipients, Pipelining: pipelining,
					Warmup: phase{Duration: time.Minute, Messages: 1}, Timeout: time.Minute,
				})
				if err != nil {
					t.Fatal(err)
				}
				defer l.close()
				r, err := l.run(phase{Duration: time.Minute, Messages: messages})
				if err != nil {
					t.Fatal(err)
				}
				if r.Messages != messages || r.Latency.Count() != messages || r.Elapsed <= 0 {
					t.Errorf("%d messages, %d latencies in %v, want %d", r.Messages, r.Latency.Count(), r.Elapsed, messages)
				}
				rec.check(t, string(testMessage(size)), messages+1, recipients)
				if (rec.mu.tls > 0) != hasTLS(mode) {
					t.Errorf("%d sessions with TLS", rec.mu.tls)
				}
			})
		}
	}
}

func (r *recording) check(t *testing.T, message string, messages, recipients int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.messages) != messages || len(r.mu.rcpts) != messages*recipients {
		t.Fatalf("%d messages to %d recipients arrived, want %d", len(r.mu.messages), len(r.mu.rcpts), messages)
	}
	for i, m := range r.mu.messages {
		if m != message || r.mu.size[i] != int64(len(message)) {
			t.Errorf("message %d: %d octets, announced %d, want %d", i, len(m), r.mu.size[i], len(message))
		}
	}
}

// TestLoadRate checks that a rate is kept and that the timeline shows it.
func TestLoadRate(t *testing.T) {
	_, addr := startRecording(t, modePlain)
	l, err := newLoader(loadConfig{Addr: addr, Mode: modePlain, Sessions: 3, Size: minSize, Recipients: 1, Pipelining: true, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	r, err := l.run(phase{Duration: 200 * time.Millisecond, Rate: 50})
	if err != nil {
		t.Fatal(err)
	}
	if r.Messages > 10 || r.Messages < 1 || len(r.Timeline) != r.Messages {
		t.Errorf("%d messages, %d moments; want 10 or, on a busy machine, less", r.Messages, len(r.Timeline))
	}
	for _, p := range []phase{{}, {Rate: 50}} { // as on a machine that has no time for it
		if r, err := l.run(p); err != nil || r.Messages != 1 {
			t.Errorf("%+v: %+v, %v; want one message", p, r, err)
		}
	}
}

// TestAwait answers a client with replies that come in every possible pair of parts.
func TestAwait(t *testing.T) {
	const text = "250-first\r\n250 second\r\n354 go on\r\n"
	for cut := range len(text) {
		ours, theirs := net.Pipe()
		go func() {
			io.WriteString(theirs, text[:cut])
			io.WriteString(theirs, text[cut:])
		}()
		c := &client{conn: ours}
		if err := c.await(2); err != nil || c.r != c.w {
			t.Errorf("cut at %d: %v, %d octets left", cut, err, c.w-c.r)
		}
		ours.Close()
		theirs.Close()
	}
}

func TestAwaitErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"451 4.3.0 later\r\n", `"451 4.3.0 later"`},
		{"250-one\r\n550 no\r\n", `"550 no"`},
		{"x\r\n", `"x"`},
		{strings.Repeat("2", 5000), "more than"},
		{"250 cut off", "waiting for a reply"},
	} {
		ours, theirs := net.Pipe()
		go func() {
			io.WriteString(theirs, tt.text)
			theirs.Close()
		}()
		err := (&client{conn: ours}).await(1)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: %v, want %s", tt.text, err, tt.want)
		}
		ours.Close()
	}
}

// TestSink checks that the sink answers a client of each of its modes.
func TestSink(t *testing.T) {
	for _, mode := range []string{modePlain, modeTLS} {
		s, err := startSubject(subjectConfig{Server: subjectSink, Mode: mode, Recipients: 4})
		if err != nil {
			t.Fatal(err)
		}
		l, err := newLoader(loadConfig{Addr: s.addr, Mode: mode, Sessions: 2, Size: 200 << 10, Recipients: 4, Pipelining: true, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := l.run(phase{Duration: time.Minute, Messages: 9}); err != nil || r.Messages != 9 {
			t.Errorf("%s: %v", mode, err)
		}
		l.close()
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}
