package smtpserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// A dropSpool takes everything and keeps nothing.
type dropSpool struct{}

func (dropSpool) Create(context.Context, int64) (spool.Writer, error) {
	return &dropWriter{id: spool.NewID()}, nil
}
func (dropSpool) Claim(context.Context, spool.ClaimRequest) (e []*spool.Entry, next time.Time, err error) {
	return
}
func (dropSpool) Apply(context.Context, ...spool.Unit) []error       { return nil }
func (dropSpool) Open(context.Context, spool.ID) (spool.Body, error) { return nil, spool.ErrNotFound }
func (dropSpool) Scan(context.Context, spool.Query) iter.Seq2[*spool.Entry, error] {
	return func(func(*spool.Entry, error) bool) {}
}
func (dropSpool) Queues(context.Context) iter.Seq2[spool.QueueInfo, error] {
	return func(func(spool.QueueInfo, error) bool) {}
}
func (dropSpool) Changed() <-chan struct{} { return nil }
func (dropSpool) Health() error            { return nil }
func (dropSpool) Close() error             { return nil }

type dropWriter struct{ id spool.ID }

func (w *dropWriter) Write(p []byte) (int, error)                   { return len(p), nil }
func (w *dropWriter) ID() spool.ID                                  { return w.id }
func (w *dropWriter) Open() (spool.Body, error)                     { return nil, spool.ErrNotFound }
func (w *dropWriter) Commit(context.Context, ...*spool.Entry) error { return nil }
func (w *dropWriter) Abort() error                                  { return nil }

// BenchmarkReception is one message through one connection, by this package
// and by go-smtp alone, which discards. The client is part of both.
func BenchmarkReception(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 10, 100 << 10, 1 << 20} {
		content := strings.Repeat(strings.Repeat("x", 74)+"\r\n", size/76)
		for _, subject := range []string{"stock", "listener"} {
			b.Run(fmt.Sprintf("%s/%dKB", subject, size>>10), func(b *testing.B) {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				if subject == "stock" {
					srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
						return &stockSession{func(r io.Reader) error {
							_, err := io.Copy(io.Discard, r)
							return err
						}}, nil
					}))
					go srv.Serve(ln)
					defer srv.Close()
				} else {
					sched, err := queue.NewScheduler(dropSpool{}, func(context.Context, *queue.Message) error { return nil }, &queue.Options{
						RecordBuffer: 1 << 30, Logger: discardLogger()})
					if err != nil {
						b.Fatal(err)
					}
					l, err := NewListener(sched, &Options{DeferredQueue: true, Logger: discardLogger(), Limits: Limits{Messages: -1}})
					if err != nil {
						b.Fatal(err)
					}
					go l.Serve(ln)
					defer l.Close()
				}
				transact(b, ln.Addr().String(), content, 1)
			})
		}
	}
}

// BenchmarkReceptionStored is one message through one connection into a boltspool,
// durable before its 250; nothing is injected. The client is part of it.
func BenchmarkReceptionStored(b *testing.B) {
	for _, size := range []int{4 << 10, 100 << 10} {
		content := strings.Repeat(strings.Repeat("x", 74)+"\r\n", size/76)
		for _, recipients := range []int{1, 50} {
			b.Run(fmt.Sprintf("%dKB/%drcpt", size>>10, recipients), func(b *testing.B) {
				sp, err := boltspool.Open(filepath.Join(b.TempDir(), "spool"), &boltspool.Options{Logger: discardLogger()})
				if err != nil {
					b.Fatal(err)
				}
				defer sp.Close()
				sched, err := queue.NewScheduler(sp, func(context.Context, *queue.Message) error { return nil }, &queue.Options{
					RecordBuffer: 1 << 30, Logger: discardLogger()})
				if err != nil {
					b.Fatal(err)
				}
				l, err := NewListener(sched, &Options{DeferredQueue: true, Logger: discardLogger(), Limits: Limits{Messages: -1}})
				if err != nil {
					b.Fatal(err)
				}
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				go l.Serve(ln)
				defer l.Close()
				transact(b, ln.Addr().String(), content, recipients)
			})
		}
	}
}

// transact sends b.N messages, each to so many recipients, as a pipelining client does.
func transact(b *testing.B, addr, content string, recipients int) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	want := func(n int, code string) {
		for n > 0 {
			line, err := r.ReadSlice('\n')
			if err != nil || string(line[:3]) != code {
				b.Fatalf("reply %q, %v; want %s", line, err, code)
			}
			if line[3] == ' ' {
				n--
			}
		}
	}
	want(1, "220")
	io.WriteString(conn, "EHLO client.example\r\n")
	want(1, "250")
	var envelope strings.Builder
	envelope.WriteString("MAIL FROM:<sender@example.com>\r\n")
	for i := range recipients {
		fmt.Fprintf(&envelope, "RCPT TO:<recipient%02d@example.org>\r\n", i)
	}
	commands := []byte(envelope.String() + "DATA\r\n")
	body := []byte(content + ".\r\n")
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		conn.Write(commands)
		want(1+recipients, "250")
		want(1, "354")
		conn.Write(body)
		want(1, "250")
	}
}
