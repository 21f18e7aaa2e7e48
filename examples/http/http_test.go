package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A world is the service, with a policy that can fail.
type world struct {
	t     *testing.T
	sp    *spool.Memory
	sched *queue.Scheduler
	url   string
	rec   deferredtest.Recorder
	stop  func()

	mu   sync.Mutex
	err  error
	sent []string // contents
	envs []spool.Envelope
}

func start(t *testing.T, sp *spool.Memory, keysFile string) *world {
	t.Helper()
	w := &world{t: t, sp: sp}
	keys, err := openKeys(keysFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := &policy{keys: keys, send: w.send}
	w.sched, err = queue.NewScheduler(sp, p.inject, &queue.Options{
		Logger: slog.New(slog.DiscardHandler), Record: w.rec.Record,
		Configure: func(string) queue.Config {
			return queue.Config{Backoff: queue.Backoff{Base: 20 * time.Millisecond}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- w.sched.Run(ctx) }()
	srv := httptest.NewServer(newServer(w.sched, keys, map[string]string{"secret": "acme", "other": "rival"}))
	w.url = srv.URL
	w.stop = sync.OnceFunc(func() {
		srv.Close()
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		keys.close()
	})
	t.Cleanup(w.stop)
	return w
}

func (w *world) send(_ context.Context, m *queue.Message) error {
	body, err := m.Open()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(body)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.sent, w.envs = append(w.sent, string(text)), append(w.envs, m.Envelope)
	return err
}

func (w *world) setErr(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

func (w *world) sentSoFar() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.sent...)
}

// await waits for so many records of these types.
func (w *world) await(n int, types ...queue.RecordType) []queue.Record {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(time.Millisecond) {
		if r := w.rec.Records(types...); len(r) >= n {
			return r
		}
	}
	w.t.Fatalf("no %d records %v; there are %v", n, types, w.rec.Records())
	return nil
}

// post submits a message and returns the answer.
func (w *world) post(query, token, key string, body io.Reader) (resp *http.Response, text string) {
	w.t.Helper()
	req, err := http.NewRequest("POST", w.url+"/messages"+query, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Idempotency-Key", key)
	return w.do(req)
}

func (w *world) do(req *http.Request) (*http.Response, string) {
	w.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(text)
}

const good = "?from=a@example.org&to=b@example.com"

func TestSubmit(t *testing.T) {
	w := start(t, spool.NewMemory(), filepath.Join(t.TempDir(), "keys"))
	resp, text := w.post(good+"&to=c@example.com", "secret", "1", strings.NewReader("Subject: x\n\nline\r\nlast"))
	var answer struct{ IDs []spool.ID }
	if err := json.Unmarshal([]byte(text), &answer); err != nil || resp.StatusCode != http.StatusAccepted || len(answer.IDs) != 2 {
		t.Fatalf("%s %s", resp.Status, text)
	}
	w.await(2, queue.Delivery)
	if got := w.sentSoFar(); len(got) != 2 || got[0] != "Subject: x\r\n\r\nline\r\nlast" {
		t.Errorf("sent %q", got)
	}
	if resp, _ := w.get(answer.IDs[0].String(), "secret"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the status of what has ended is %s", resp.Status)
	}
}

func (w *world) get(id, token string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequest("GET", w.url+"/messages/"+id, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return w.do(req)
}

func TestRefused(t *testing.T) {
	w := start(t, spool.NewMemory(), filepath.Join(t.TempDir(), "keys"))
	for _, tt := range []struct {
		name, query, token, key string
		body                    io.Reader
		want                    int
	}{
		{"no token", good, "", "1", nil, 401},
		{"a wrong one", good, "guess", "1", nil, 401},
		{"no recipient", "?from=a@example.org", "secret", "1", nil, 400},
		{"a bad one", "?to=nobody", "secret", "1", nil, 400},
		{"a bad sender", "?from=x&to=b@example.com", "secret", "1", nil, 400},
		{"too many", "?" + strings.Repeat("to=b@example.com&", 101), "secret", "1", nil, 400},
		{"no key", good, "secret", "", nil, 400},
		{"a long key", good, "secret", strings.Repeat("k", 201), nil, 400},
		{"a lone CR", good, "secret", "1", strings.NewReader("Subject: x\n\nx\ry\n"), 400},
		{"a NUL", good, "secret", "1", strings.NewReader("Subject: x\n\nx\x00y\n"), 400},
		{"a long line", good, "secret", "1", strings.NewReader("Subject: x\n\n" + strings.Repeat("x", maxLine+1) + "\n"), 400},
		{"too large", good, "secret", "1", io.LimitReader(short{}, maxMessage+1), 413},
	} {
		if resp, text := w.post(tt.query, tt.token, tt.key, tt.body); resp.StatusCode != tt.want {
			t.Errorf("%s: %s %s, want %d", tt.name, resp.Status, text, tt.want)
		}
	}
	w.sp.SetFull(true)
	if resp, _ := w.post(good, "secret", "1", strings.NewReader("x")); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a full spool: %s", resp.Status)
	}
	w.sp.SetFull(false)
	if resp, _ := w.post(good, "secret", "1", strings.NewReader("x")); resp.StatusCode != 202 {
		t.Errorf("with room again: %s", resp.Status)
	}
	w.await(1, queue.Delivery)
	if n := len(w.rec.Records(queue.Reception)); n != 1 {
		t.Errorf("%d messages were accepted, want 1", n)
	}
}

// short is short lines without end.
type short struct{}

func (short) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "x\n"[i%2]
	}
	return len(p), nil
}

// A client that goes away in the middle has sent nothing.
func TestClientGoesAway(t *testing.T) {
	w := start(t, spool.NewMemory(), filepath.Join(t.TempDir(), "keys"))
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "POST /messages"+good+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nIdempotency-Key: 1\r\nContent-Length: 1000\r\n\r\nSubject: half")
	conn.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(conn)
	conn.Close()
	if bytes.Contains(answer, []byte("202 Accepted")) {
		t.Errorf("got %q", answer)
	}
	w.stop()
	if n := len(w.rec.Records()); n != 0 {
		t.Errorf("%d records", n)
	}
}

// TestRepeat: the same key is sent once, over failures and restarts, to each recipient;
// another tenant's key is another one.
func TestRepeat(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	sp := spool.NewMemory()
	w := start(t, sp, keys)
	w.setErr(errors.New("down"))
	w.post(good, "secret", "k", strings.NewReader("x"))
	w.await(1, queue.TransientFailure)
	w.stop() // its answer may have been lost
	again := start(t, sp, keys)
	for range 3 {
		if resp, _ := again.post(good, "secret", "k", strings.NewReader("x")); resp.StatusCode != http.StatusAccepted {
			t.Error(resp.Status)
		}
	}
	again.post(good, "other", "k", strings.NewReader("of another tenant"))
	again.post("?to=b@EXAMPLE.com&to=b@example.com&to=B@example.com", "secret", "k2", strings.NewReader("to two mailboxes"))
	again.await(4, queue.AdminBounce)
	again.await(4, queue.Delivery)
	if got := again.sentSoFar(); len(got) != 4 {
		t.Errorf("sent %q, want 4", got)
	}
	if r := again.rec.Records(queue.AdminBounce)[0]; !strings.Contains(r.Response.Content, "a repeat of ") {
		t.Errorf("%+v", r.Response)
	}
}

func TestStatus(t *testing.T) {
	w := start(t, spool.NewMemory(), filepath.Join(t.TempDir(), "keys"))
	w.setErr(errors.New("the other side is down"))
	_, text := w.post(good, "secret", "1", strings.NewReader("x"))
	var answer struct{ IDs []string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	w.await(1, queue.TransientFailure)
	resp, text := w.get(answer.IDs[0], "secret")
	if resp.StatusCode != 200 || !strings.Contains(text, "the other side is down") || !strings.Contains(text, `"state":"queued"`) {
		t.Errorf("%s %s", resp.Status, text)
	}
	for _, id := range []string{"nonsense", spool.NewID().String()} {
		if resp, _ := w.get(id, "secret"); resp.StatusCode != 404 {
			t.Errorf("%s: %s", id, resp.Status)
		}
	}
	if resp, _ := w.get(answer.IDs[0], "other"); resp.StatusCode != 404 {
		t.Errorf("another tenant sees it: %s", resp.Status)
	}
	if resp, _ := w.get(answer.IDs[0], "guess"); resp.StatusCode != 401 {
		t.Errorf("anybody sees it: %s", resp.Status)
	}
}

func TestOnce(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-once", "-addr", "127.0.0.1:0", "-dir", filepath.Join(t.TempDir(), "new")}, syncWriter{&sync.Mutex{}, &out}); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Count(text, "answer: 202") != 2 || strings.Count(text, "sent ") != 1 || !strings.Contains(text, "a repeat of") {
		t.Error(text)
	}
}

// TestDirectory: mail is kept where a restart of the machine leaves it alone, but for
// what the demonstration sends.
func TestDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := run(t.Context(), []string{"-once", "-addr", "127.0.0.1:0"}, syncWriter{&sync.Mutex{}, io.Discard}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 0 {
		t.Errorf("-once leaves %v behind, %v", left, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"-addr", "127.0.0.1:0"}, syncWriter{&sync.Mutex{}, io.Discard}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("http-data/spool"); err != nil {
		t.Error(err)
	}
}

// TestServes: without -once it goes on, however many messages come.
func TestServes(t *testing.T) {
	const n = 30
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ran := make(chan error, 1)
	go func() {
		ran <- run(ctx, []string{"-addr", "127.0.0.1:0", "-dir", filepath.Join(t.TempDir(), "new")}, syncWriter{&sync.Mutex{}, w})
		w.Close()
	}()
	sent := 0
	var posting sync.WaitGroup
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			posting.Go(func() {
				for i := range n {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/messages"+good, strings.NewReader("Subject: x\n\nx\n"))
					if err != nil {
						t.Error(err)
						return
					}
					req.Header.Set("Authorization", "Bearer secret")
					req.Header.Set("Idempotency-Key", fmt.Sprint(i))
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
				}
			})
		}
		if strings.HasPrefix(lines.Text(), "sent ") {
			if sent++; sent == n {
				cancel()
			}
		}
	}
	cancel()
	posting.Wait()
	if err := <-ran; err != nil || sent != n {
		t.Errorf("%d of %d messages were sent, error %v", sent, n, err)
	}
}

// TestQuotes: an address keeps the quotes that it needs.
func TestQuotes(t *testing.T) {
	for from, want := range map[string]string{
		"a@example.org": "a@example.org", `"x> NOTIFY=NEVER"@example.com`: `"x> NOTIFY=NEVER"@example.com`, "ä@example.org": "ä@example.org",
	} {
		q := url.Values{"from": {from}, "to": {from}}
		env, err := envelope(httptest.NewRequest(http.MethodPost, "/messages?"+q.Encode(), nil))
		if err != nil || env.Sender != want || env.Recipients[0].Address != want {
			t.Errorf("%s: %+v, %v", from, env, err)
		}
	}
}

type syncWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (s syncWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
