// Package existing_test shows what a host that has a go-smtp server changes to
// defer its policy: the programs before and after are run by their own tests, and
// change.diff is what they differ in.
//
//	go run ./examples/existing/before -once
//	go run ./examples/existing/after -once
package existing_test

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write change.diff anew")

// mostLines is what a small change is: added and removed lines together.
const mostLines = 80

func TestChange(t *testing.T) {
	before, after := lines(t, "before/main.go"), lines(t, "after/main.go")
	edits := diff(before, after)
	changed := 0
	var text strings.Builder
	for _, e := range edits {
		text.WriteString(e.String())
		if e.mark != ' ' {
			changed++
		}
	}
	if changed > mostLines {
		t.Errorf("%d lines are changed, want at most %d", changed, mostLines)
	}
	if kept := len(edits) - changed; kept < len(before)*3/4 {
		t.Errorf("%d of %d lines are kept, want at least three quarters", kept, len(before))
	}
	if *update {
		if err := os.WriteFile("change.diff", []byte(text.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile("change.diff")
	if err != nil {
		t.Fatal(err)
	}
	if string(golden) != text.String() {
		t.Error("change.diff is not what before and after differ in: run this test with -update")
	}
}

// change.diff makes after out of before.
func TestDiff(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"", "", ""},
		{"a", "a", " a\n"},
		{"a", "b", "-a\n+b\n"},
		{"a b c", "a c", " a\n-b\n c\n"},
		{"a c", "a b c", " a\n+b\n c\n"},
		{"a b c d", "b x d y", "-a\n b\n-c\n+x\n d\n+y\n"},
	} {
		got := ""
		for _, e := range diff(strings.Fields(tt.a), strings.Fields(tt.b)) {
			got += e.String()
		}
		if got != tt.want {
			t.Errorf("diff of %q and %q is %q, want %q", tt.a, tt.b, got, tt.want)
		}
	}
}

func lines(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// An edit is a line with what becomes of it: ' ' kept, '-' removed, '+' added.
type edit struct {
	mark byte
	line string
}

func (e edit) String() string { return strings.TrimRight(string(e.mark)+e.line, " ") + "\n" }

// diff returns the lines of a and b in a shortest way from one to the other.
func diff(a, b []string) (edits []edit) {
	common := make([][]int, len(a)+1) // length of what a[i:] and b[j:] have in common
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			edits = append(edits, edit{' ', a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			edits = append(edits, edit{'-', a[i]})
			i++
		default:
			edits = append(edits, edit{'+', b[j]})
			j++
		}
	}
	return edits
}
