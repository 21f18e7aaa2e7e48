package smtpserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

func traced(hello, addr string, trace Trace) (string, *spool.Entry) {
	s := &reception{opts: &Options{Hostname: "mx.example.com", Trace: trace}, extended: true, pub: &Session{Hello: hello, Remote: netip.MustParseAddrPort("[2001:db8::1]:25")}}
	e := &spool.Entry{ID: spool.NewID(), Received: time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))}
	e.Envelope.Recipients = []spool.Recipient{{Address: addr}}
	s.meta()
	return string(s.trace(e)), e
}

func TestReceived(t *testing.T) {
	for _, tt := range []struct{ hello, addr, from, path string }{
		{"a.example", "b@c.example", "a.example", "\r\n\tfor <b@c.example>"},
		{"[IPv6:2001:db8::1]", "b@c.example", "[IPv6:2001:db8::1]", "\r\n\tfor <b@c.example>"},
		{"a (evil) b\r\nX: y", "b@c.example", "a??evil??b??X:?y", "\r\n\tfor <b@c.example>"},
		{"", `x> y"z\@c.example`, "unknown", "\r\n\tfor <\"x> y\\\"z\\\\\"@c.example>"},
		{"x", "b\r\nX: y@c.example", "x", ""},
		{"x", "b@c>d", "x", ""},
	} {
		got, e := traced(tt.hello, tt.addr, Trace{OmitSupplemental: true})
		want := "Received: from " + tt.from + " ([IPv6:2001:db8::1])\r\n\tby mx.example.com with ESMTP id " + e.ID.String() +
			tt.path + ";\r\n\tFri, 2 Jan 2026 03:04:05 +0100\r\n"
		if got != want {
			t.Errorf("EHLO %q, RCPT %q:\n got %q\nwant %q", tt.hello, tt.addr, got, want)
		}
	}
}

func TestSupplemental(t *testing.T) {
	got, _ := traced("x", "b@c.example", Trace{OmitReceived: true, HeaderName: "X-Ref"})
	value, ok := strings.CutPrefix(got, "X-Ref: ")
	text, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(value, "\r\n\t", ""))
	if want := `{"_@_":"\\_/","recipient":"b@c.example"}`; !ok || err != nil || string(text) != want {
		t.Errorf("%q is %q, %v; want %s", got, text, err, want)
	}
}

func FuzzTrace(f *testing.F) {
	f.Add("a.example", "b@c.example")
	f.Add("a\r\nb", "\"\r\n\"@c")
	f.Fuzz(func(t *testing.T, hello, addr string) {
		got, _ := traced(hello, addr, Trace{HeaderName: "X-KumoRef"})
		lines := strings.Split(strings.TrimSuffix(got, "\r\n"), "\r\n")
		for i, line := range lines {
			if len(line) > 998 && len(addr) < 300 || strings.ContainsAny(line, "\r\n\x00") {
				t.Errorf("line %q", line)
			}
			if i > 0 && !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "Received: from ") {
				t.Errorf("line %q begins a field of its own", line)
			}
		}
		var fields map[string]string
		ref, _, _ := strings.Cut(got, "\r\nReceived:")
		text, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(strings.TrimPrefix(ref, "X-KumoRef: "), "\r\n\t", ""))
		if err == nil {
			err = json.Unmarshal(text, &fields)
		}
		if err != nil || utf8.ValidString(addr) && fields["recipient"] != addr {
			t.Errorf("%q does not give %q back: %v", ref, addr, err)
		}
	})
}

func TestReplies(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("queue: storing: %w", err) }
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("secret.example: no route"), "451 4.3.0 Temporary failure, try again later"},
		{wrap(spool.ErrFull), "452 4.3.1 Insufficient disk space, try again later"},
		{wrap(spool.ErrQuota), "452 4.3.1 Spool quota reached, try again later"},
		{wrap(spool.ErrNoInodes), "452 4.3.1 Insufficient inodes, try again later"},
		{wrap(spool.ErrTooLarge), "552 5.3.4 Message is larger than the maximum"},
		{wrap(spool.ErrBusy), "451 4.3.2 Too busy, try again later"},
		{wrap(queue.ErrRecordsFull), "451 4.3.2 Too many log records are waiting, try again later"},
		{wrap(spool.ErrFailed), "451 4.3.0 Storage failed, try again later"},
		{wrap(spool.ErrFenced), "451 4.3.0 Storage failed, try again later"},
		{wrap(spool.ErrAmbiguous), "451 4.3.0 Temporary failure, try again later"},
		{wrap(context.DeadlineExceeded), "451 4.4.5 Processing took too long, try again later"},
		{wrap(errDraining), "421 4.3.2 Service shutting down, try again later"},
		{wrap(queue.Reject(550, "5.7.1 no\r\n250 é")), "550 5.7.1 no  250 ?"},
		{queue.Reject(599, "x"), "599 5.0.0 x"},
		{queue.Reject(250, "x"), "451 4.3.0 Temporary failure, try again later"},
		{&queue.RejectError{Code: 450, Enhanced: [3]int{5, 1, 1}}, "450 4.0.0 Refused"},
	} {
		if got := toReply(tt.err).Error(); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
	if w := worst([]*reply{nil, replyFull, {code: 550}, {code: 554}}); w.code != 550 {
		t.Errorf("worst is %v, want the first 5xx", w)
	}
}

func TestOKReply(t *testing.T) {
	ids := make([]spool.ID, 50)
	for i := range ids {
		ids[i] = spool.NewID()
	}
	for n := 1; n <= len(ids); n++ {
		line := string(okReply(ids[:n]...).line())
		if len(line) > maxReply {
			t.Fatalf("%d IDs: %d octets", n, len(line))
		}
		fields := strings.Fields(strings.TrimPrefix(line, "250 2.0.0 OK ids="))
		cut := fields[len(fields)-1] == "..."
		if cut {
			fields = fields[:len(fields)-1]
		}
		if cut != (len(fields) < n) || n <= 14 && cut {
			t.Errorf("%d IDs: %q", n, line)
		}
		for i, f := range fields {
			if f != ids[i].String() {
				t.Errorf("%d IDs: %q in place %d", n, f, i)
			}
		}
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte("250 2.0.0 OK\r\n"))
	f.Add([]byte("250-x\r\n"))
	f.Add([]byte("5.5"))
	f.Fuzz(func(t *testing.T, line []byte) {
		code, final := replyCode(line)
		if final {
			if r := parseReply(code, line); r.code != code || len(r.text) > len(line) {
				t.Errorf("%q is %+v", line, r)
			}
		}
	})
}
