package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/smtp"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-message/mail"
)

// A screen is what run writes to. It tells of every line.
type screen struct {
	lines chan string
	mu    struct {
		sync.Mutex
		bytes.Buffer
	}
}

func newScreen() *screen { return &screen{lines: make(chan string, 1000)} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.lines <- string(p):
	default:
	}
	return s.mu.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.String()
}

// await returns the submatches of the next line that matches.
func (s *screen) await(t *testing.T, pattern string) []string {
	t.Helper()
	re, limit := regexp.MustCompile(pattern), time.After(30*time.Second)
	for {
		select {
		case line := <-s.lines:
			if m := re.FindStringSubmatch(line); m != nil {
				return m
			}
		case <-limit:
			t.Fatalf("no line matches %q in\n%s", pattern, s)
		}
	}
}

// start runs the program in the background; result waits for its end.
func start(t *testing.T, args ...string) (s *screen, stop func(), result func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s, ended := newScreen(), make(chan error, 1)
	go func() { ended <- run(ctx, args, s) }()
	result = sync.OnceValue(func() error { return <-ended })
	t.Cleanup(func() {
		cancel()
		_ = result() // the test has looked at it where it matters
	})
	return s, cancel, result
}

// want checks that each pattern matches a line of the output.
func want(t *testing.T, s *screen, patterns ...string) {
	t.Helper()
	out := s.String()
	for _, p := range patterns {
		if !regexp.MustCompile(`(?m)^` + p + `$`).MatchString(out) {
			t.Errorf("no line is %q in\n%s", p, out)
		}
	}
}

func delivered(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "outbox", "*.eml"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestOnce(t *testing.T) {
	dir := t.TempDir()
	s, _, result := start(t, "-once", "-addr", "127.0.0.1:0", "-spool", filepath.Join(dir, "spool"), "-slow", "20ms", "-retry", "50ms")
	if err := result(); err != nil {
		t.Fatalf("%v\n%s", err, s)
	}
	const took = `[\d.]+ m?s`
	want(t, s,
		`  Plain text +0\.\d KB +1 +`+took,
		`  Three recipients +0\.\d KB +3 +`+took,
		`All of it is on disk: 6 messages, .*`,
		` +\d.* Plain text +ada@example\.net +1  failed: key look-up timed out, again in 50\.0 ms`,
		` +\d.* HTML and a picture +grace@example\.net +2  failed: .*, again in 100 ms`,
		` +\d.* Grüße aus Łódź +jürgen@example\.net +2  passed, moved to queue demo@example\.net`,
		`  Plain text +ada@example\.net +`+took+` +2 +\d.*delivered to the outbox`,
		`  HTML and a picture +grace@example\.net +`+took+` +3 +\d.*delivered to the outbox`,
		` +linus@example\.org +2 +\d.*delivered to the outbox`,
		` +nobody@example\.org +1 +\d.*refused: 550 5\.1\.1 no such address`,
		`Stopped\. Nothing is queued\.`)
	if strings.Contains(s.String(), "\x1b") {
		t.Error("colours where there is no terminal")
	}
	if strings.Contains(s.String(), "Resuming") {
		t.Error("an empty spool was resumed")
	}
	names := delivered(t, dir)
	if len(names) != 5 {
		t.Fatalf("%d messages in the outbox, want 5", len(names))
	}
	pictures := 0
	for _, name := range names {
		pictures += checkDelivered(t, name)
	}
	if pictures != 1 {
		t.Errorf("%d pictures arrived, want 1", pictures)
	}
}

// checkDelivered looks at a message in the outbox, and returns the number of
// its attachments.
func checkDelivered(t *testing.T, name string) (attachments int) {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := mail.CreateReader(bytes.NewReader(content))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if n := len(r.Header.Values("X-Quickstart-Policy")); n != 1 {
		t.Errorf("%s: the field of the policy is there %d times, want once: failed attempts leave no trace", name, n)
	}
	for _, field := range []string{"Received", "X-KumoRef", "Subject"} {
		if r.Header.Get(field) == "" {
			t.Errorf("%s: no %s", name, field)
		}
	}
	for {
		part, err := r.NextPart()
		if err == io.EOF {
			return attachments
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, ok := part.Header.(*mail.AttachmentHeader); ok {
			attachments++
			got, err := io.ReadAll(part.Body)
			if err != nil || !bytes.HasPrefix(got, []byte("\x89PNG\r\n")) {
				t.Errorf("%s: the picture is %.8q, %v", name, got, err)
			}
		}
	}
}

// What is queued at the stop is resumed by the next run, with its attempts.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	args := []string{"-addr", "127.0.0.1:0", "-spool", filepath.Join(dir, "spool"), "-slow", "10ms", "-retry", "1s"}
	s, stop, result := start(t, args...)
	s.await(t, `  failed: `)
	stop()
	if err := result(); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`Still queued in the spool: (\d+) messages`).FindStringSubmatch(s.String())
	if m == nil {
		t.Fatalf("nothing is said to be queued:\n%s", s)
	}
	before := len(delivered(t, dir))
	left, _ := strconv.Atoi(m[1])

	s, _, result = start(t, append(args, "-once")...)
	if err := result(); err != nil {
		t.Fatalf("%v\n%s", err, s)
	}
	want(t, s, `Resuming `+m[1]+` messages from the last run`,
		`  HTML and a picture +grace@example\.net +\d.* [1-9] +(now|in .*)`,
		`  HTML and a picture +grace@example\.net +last run +3 +\d.*delivered to the outbox`,
		`Stopped\. Nothing is queued\.`)
	// nobody's message may have been left, and is refused then.
	resumed := strings.Count(s.String(), " last run ")
	refused := regexp.MustCompile(`last run .*refused`).FindAllString(s.String(), -1)
	if resumed != left {
		t.Errorf("%d messages were resumed, want %d", resumed, left)
	}
	if got := len(delivered(t, dir)); got != before+left-len(refused)+5 {
		t.Errorf("%d messages in the outbox: %d before the stop, %d queued, %d of them refused, 5 new", got, before, left, len(refused))
	}
}

func TestByHand(t *testing.T) {
	dir := t.TempDir()
	s, stop, result := start(t, "-addr", "127.0.0.1:0", "-spool", filepath.Join(dir, "spool"), "-slow", "1ms", "-retry", "10ms")
	addr := s.await(t, `SMTP +(\S+)`)[1]
	s.await(t, `--header 'Subject: By hand'`)
	content := "Subject: =?utf-8?q?By_h=C3=A4nd?= \x1b[2J\r\n\r\nHello.\r\n"
	if err := smtp.SendMail(addr, nil, "me@example.com", []string{"you@example.net"}, []byte(content)); err != nil {
		t.Fatal(err)
	}
	s.await(t, `By händ +\[2J +you@example\.net +delivered to the outbox`)
	stop()
	if err := result(); err != nil {
		t.Fatal(err)
	}
	want(t, s, ` +from me@example\.com +you@example\.net +250: 0\.\d KB on disk, ID [0-9a-f]{32}`, `Stopped\. Nothing is queued\.`)
}

func TestArguments(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"argument", []string{"now"}, `unexpected argument "now"`},
		{"retry", []string{"-retry", "0s"}, "retry above zero"},
		{"slow", []string{"-slow", "-1s"}, "want a duration"},
		{"taken", []string{"-addr", ln.Addr().String()}, "-addr 127.0.0.1:0 takes a free port"},
		{"exposed", []string{"-addr", "0.0.0.0:0"}, "RelayHosts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"-spool", filepath.Join(t.TempDir(), "spool")}, tt.args...)
			err := run(t.Context(), args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("run: %v, want %q", err, tt.want)
			}
		})
	}
}
