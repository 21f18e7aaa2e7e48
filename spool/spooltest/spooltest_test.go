package spooltest_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/spooltest"
)

// breakage names, for a child process, what is wrong with its spool.
const breakage = "SPOOLTEST_BREAKAGE"

// TestSuite runs the suite against the in-memory spool, which is whole unless
// the environment breaks it.
func TestSuite(t *testing.T) {
	wrap := func(m *spool.Memory) spool.Spool { return &broken{m} }
	if kind, found := breakages[os.Getenv(breakage)]; found {
		wrap = kind.wrap
	}
	h := spooltest.Harness{
		Open:   func(*testing.T) spool.Spool { return wrap(spool.NewMemory()) },
		Reopen: func(_ *testing.T, s spool.Spool) spool.Spool { return wrap(whole(s).Reopen()) },
		Crash:  func(_ *testing.T, s spool.Spool) spool.Spool { return wrap(whole(s).Crash()) },
		Second: func(_ *testing.T, s spool.Spool) spool.Spool { return wrap(whole(s).Attach()) },
		Fail:   func(_ *testing.T, s spool.Spool) { whole(s).FailSync() },
		Damage: func(t *testing.T, s spool.Spool, id spool.ID, part string) {
			if err := whole(s).Damage(id, part); err != nil {
				t.Fatal(err)
			}
		},
	}
	if os.Getenv(breakage) == "open only" {
		h = spooltest.Harness{Open: h.Open}
	}
	if os.Getenv(breakage) == "no open" {
		h.Open = nil
	}
	spooltest.Run(t, h)
}

// broken is a whole spool from which each breakage takes something away.
type broken struct{ *spool.Memory }

func (b *broken) memory() *spool.Memory { return b.Memory }

func whole(s spool.Spool) *spool.Memory { return s.(interface{ memory() *spool.Memory }).memory() }

var breakages = map[string]struct {
	caught string // the sub-test that must see it
	wrap   func(*spool.Memory) spool.Spool
}{
	"nil after a failed sync":   {"Fail/Commit", func(m *spool.Memory) spool.Spool { return &forgiving{broken{m}, spool.ErrFailed} }},
	"nil when fenced":           {"Owner/Fenced", func(m *spool.Memory) spool.Spool { return &forgiving{broken{m}, spool.ErrFenced} }},
	"nil when it exists":        {"Unit/Exists", func(m *spool.Memory) spool.Spool { return &forgiving{broken{m}, spool.ErrExists} }},
	"units in pieces":           {"Unit/Atomic", func(m *spool.Memory) spool.Spool { return &piecemeal{broken{m}} }},
	"claims given back at once": {"Claim/Limit", func(m *spool.Memory) spool.Spool { return &generous{broken{m}} }},
	"limit passed":              {"Claim/Limit", func(m *spool.Memory) spool.Spool { return &greedy{broken{m}} }},
	"everything due":            {"Claim/Rescheduled", func(m *spool.Memory) spool.Spool { return &hasty{broken{m}} }},
	"wrong bytes":               {"Damage/Body", func(m *spool.Memory) spool.Spool { return &careless{broken{m}} }},
	"healthy for ever":          {"Close/ErrClosed", func(m *spool.Memory) spool.Spool { return &cheerful{broken{m}} }},
	"scan backwards":            {"Scan/Order", func(m *spool.Memory) spool.Spool { return &backward{broken{m}} }},
	"marks ignored":             {"Crash/Interrupted", func(m *spool.Memory) spool.Spool { return &unmarked{broken{m}} }},
}

// forgiving answers nil for one kind of error.
type forgiving struct {
	broken
	forgiven error
}

func (s *forgiving) Apply(ctx context.Context, units ...spool.Unit) []error {
	errs := s.broken.Apply(ctx, units...)
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil && !errors.Is(err, s.forgiven) }) {
		return errs
	}
	return nil
}

func (s *forgiving) Create(ctx context.Context, size int64) (spool.Writer, error) {
	w, err := s.broken.Create(ctx, size)
	return &forgivingWriter{w, s.forgiven}, err
}

type forgivingWriter struct {
	spool.Writer
	forgiven error
}

func (w *forgivingWriter) Commit(ctx context.Context, entries ...*spool.Entry) error {
	if err := w.Writer.Commit(ctx, entries...); !errors.Is(err, w.forgiven) {
		return err
	}
	return nil
}

// piecemeal applies the changes of a unit one by one.
type piecemeal struct{ broken }

func (s *piecemeal) Apply(ctx context.Context, units ...spool.Unit) (errs []error) {
	for _, u := range units {
		for _, c := range u {
			if errs = s.broken.Apply(ctx, spool.Unit{c}); errs != nil {
				return errs
			}
		}
	}
	return nil
}

// generous owns nothing for long.
type generous struct{ broken }

func (s *generous) Claim(ctx context.Context, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	entries, next, err := s.broken.Claim(ctx, req)
	for _, e := range entries {
		s.Apply(ctx, spool.Unit{{Op: spool.Release, Entry: e}})
	}
	return entries, next, err
}

// greedy claims one more.
type greedy struct{ broken }

func (s *greedy) Claim(ctx context.Context, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	req.Limit++
	return s.broken.Claim(ctx, req)
}

// hasty claims before the time.
type hasty struct{ broken }

func (s *hasty) Claim(ctx context.Context, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	req.Due = req.Due.Add(time.Hour)
	return s.broken.Claim(ctx, req)
}

// careless does not notice damage.
type careless struct{ broken }

func (s *careless) Open(ctx context.Context, id spool.ID) (spool.Body, error) {
	b, err := s.broken.Open(ctx, id)
	if _, corrupt := errors.AsType[*spool.CorruptError](err); !corrupt {
		return b, err
	}
	return emptyBody{strings.NewReader("!")}, nil
}

type emptyBody struct{ *strings.Reader }

func (emptyBody) Close() error { return nil }

// cheerful has no bad health.
type cheerful struct{ broken }

func (*cheerful) Health() error { return nil }

// backward scans from the end.
type backward struct{ broken }

func (s *backward) Scan(ctx context.Context, q spool.Query) iter.Seq2[*spool.Entry, error] {
	var entries []*spool.Entry
	for e := range s.broken.Scan(ctx, q) {
		entries = append([]*spool.Entry{e}, entries...)
	}
	return func(yield func(*spool.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// unmarked forgets what was started.
type unmarked struct{ broken }

func (*unmarked) Started(...spool.ID) {}

// TestBreakages runs single sub-tests of the suite, each in a child process,
// against a spool that breaks the rule of that sub-test.
func TestBreakages(t *testing.T) {
	for name, kind := range breakages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := child(t, name, kind.caught)
			if err == nil || !strings.Contains(out, "--- FAIL: TestSuite/"+kind.caught) || !strings.Contains(out, "the rule: ") {
				t.Errorf("the suite did not see it in %s: %v\n%s", kind.caught, err, out)
			}
		})
	}
}

// What a harness cannot do is named, not left out in silence.
func TestOpenOnly(t *testing.T) {
	out, err := child(t, "open only", "")
	if err != nil {
		t.Fatalf("the suite fails for a harness with nothing but Open: %v\n%s", err, out)
	}
	for _, name := range []string{"Reopen", "Crash", "Second", "Fail", "Damage"} {
		if !strings.Contains(out, "not checked, since the harness has no ["+name) {
			t.Errorf("the suite does not say that it did not check %s:\n%s", name, out)
		}
	}
	if out, err = child(t, "no open", ""); err == nil || !strings.Contains(out, "Harness.Open is nil") {
		t.Errorf("a harness without Open: got %v\n%s", err, out)
	}
}

// child runs TestSuite, or one sub-test of it, on a spool that is broken.
func child(t *testing.T, kind, sub string) (output string, err error) {
	pattern := "^TestSuite$"
	for part := range strings.SplitSeq(sub, "/") {
		if part != "" {
			pattern += "/^" + part + "$"
		}
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+pattern, "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), breakage+"="+kind)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = io.Writer(&out), &out
	err = cmd.Run()
	return out.String(), err
}
