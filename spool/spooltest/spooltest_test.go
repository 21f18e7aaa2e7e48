package spooltest_test

import (
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/spooltest"
)

// breakageName names, for a child process, what is wrong with its spool.
const breakageName = "SPOOLTEST_BREAKAGE"

// A breakage takes something away from a spool that is whole.
type breakage struct {
	caught  string                   // the sub-tests that must see it, each, separated by spaces
	bend    func() hooks             // called once
	harness func(*spooltest.Harness) // if not nil, changes what the harness does
}

var breakages = collect(bodyBreakages, unitBreakages, claimBreakages, lastingBreakages, modelBreakages)

func collect(lists ...map[string]breakage) map[string]breakage {
	all := make(map[string]breakage)
	for _, list := range lists {
		maps.Copy(all, list)
	}
	return all
}

// TestSuite runs the suite against the in-memory spool, which is whole unless
// the environment breaks it.
func TestSuite(t *testing.T) {
	broken := breakages[os.Getenv(breakageName)]
	var h hooks
	if broken.bend != nil {
		h = broken.bend()
	}
	wrap := func(m *spool.Memory) spool.Spool { return &bent{m, h} }
	harness := spooltest.Harness{
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
		Sizes: []int{oddSize},
		Space: func(t *testing.T, s spool.Spool) int64 { return taken(t, whole(s)) },
	}
	if broken.caught != "" {
		harness.Rounds = 2000 // chance must not decide
	}
	if broken.harness != nil {
		broken.harness(&harness)
	}
	switch os.Getenv(breakageName) {
	case "open only":
		harness = spooltest.Harness{Open: harness.Open}
	case "no open":
		harness.Open = nil
	}
	spooltest.Run(t, harness)
}

// oddSize is a length of bodies that only the harness knows.
const oddSize = 7777

// taken sums up what is stored, each body once.
func taken(t *testing.T, m *spool.Memory) (sum int64) {
	bodies := make(map[spool.ID]bool)
	for e, err := range m.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		sum += int64(len(e.Header)) + 100
		if b, err := m.Open(t.Context(), e.Body); err == nil && !bodies[e.Body] {
			bodies[e.Body] = true
			sum += b.Size()
			b.Close()
		}
	}
	return sum
}

// TestBreakages runs single sub-tests of the suite, each in a child process,
// against a spool that breaks the rule of that sub-test.
func TestBreakages(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(breakages)) {
		for caught := range strings.FieldsSeq(breakages[name].caught) {
			t.Run(name+"/"+caught, func(t *testing.T) {
				t.Parallel()
				out, err := child(t, name, caught)
				if err == nil || !strings.Contains(out, "--- FAIL: TestSuite/"+caught) || !strings.Contains(out, "the rule: ") {
					t.Errorf("the suite did not see it in %s: %v\n%s", caught, err, out)
				}
			})
		}
	}
}

// Every sub-test sees some breakage, but for those that would wait 10 s for a
// hint that does not come.
func TestEachRuleIsBroken(t *testing.T) {
	seen := []string{"Owner/GivenBack", "Second/Hints"}
	for _, b := range breakages {
		seen = append(seen, strings.Fields(b.caught)...)
	}
	names := spooltest.Names()
	for _, name := range names {
		if !slices.Contains(seen, name) {
			t.Errorf("no breakage is known that %s sees", name)
		}
	}
	for _, name := range seen {
		if !slices.Contains(names, name) {
			t.Errorf("there is no sub-test %s", name)
		}
	}
}

// What a harness cannot do is named, not left out in silence.
func TestOpenOnly(t *testing.T) {
	out, err := child(t, "open only", "")
	if err != nil {
		t.Fatalf("the suite fails for a harness with nothing but Open: %v\n%s", err, out)
	}
	for _, name := range []string{"Reopen", "Crash", "Second", "Fail", "Damage", "Space"} {
		if !strings.Contains(out, "not checked, since the harness has no ["+name) {
			t.Errorf("the suite does not say that it did not check %s:\n%s", name, out)
		}
	}
	if !strings.Contains(out, "no Sizes") || !strings.Contains(out, "no Reopen, Crash, Second, Fail") {
		t.Errorf("the suite does not say what it did not check for want of Sizes, nor in Model:\n%s", out)
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
	cmd.Env = append(os.Environ(), breakageName+"="+kind)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = io.Writer(&out), &out
	err = cmd.Run()
	return out.String(), err
}
