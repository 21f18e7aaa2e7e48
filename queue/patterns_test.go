package queue

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"testing"
)

// named returns a handler that answers with its name.
func named(name string) Handler {
	return func(context.Context, *Message) error { return errors.New(name) }
}

// matched returns the name of the handler of a queue, "-" if there is none.
func matched(p *patterns, queue string) string {
	h := p.match(queue)
	if h == nil {
		return "-"
	}
	return h(context.Background(), nil).Error()
}

// newPatterns returns patterns whose handlers are named as they are.
func newPatterns(t testing.TB, all ...string) *patterns {
	t.Helper()
	p := new(patterns)
	for _, pattern := range all {
		if err := p.add(pattern, named(pattern)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestPatternsMatch(t *testing.T) {
	const every = "* exact.example t@exact.example *@domain campaign:* tenant@* *!routing " +
		"tenant@domain campaign:tenant@* campaign:*@domain *@domain!routing tenant@*!routing campaign:*!routing"
	tests := []struct{ patterns, queue, want string }{
		{"*", "any.example", "*"},
		{"*", "c:t@d!r", "*"},
		{"*", "@", "*"},
		{"*", "not : a @ name * of parts!", "*"},
		{"*", Deferred, "-"},
		{"*", strings.ToUpper(Deferred), "-"},
		{"*@" + Deferred, Deferred, "-"},
		{"*@*", Deferred, "-"},
		{"*@*", "d", "*@*"},
		{"", "d", "-"},

		{every, "exact.example", "exact.example"},
		{every, "EXACT.example", "exact.example"},
		{every, "t@EXACT.example", "t@exact.example"},
		{every, "T@exact.example", "*"},
		{every, "domain", "*@domain"},
		{every, "x@domain", "*@domain"},
		{every, "x:y@DOMAIN!z", "*@domain"},
		{every, "campaign:x@y", "campaign:*"},
		{every, "campaign:@y", "campaign:*"},
		{every, "Campaign:@y", "*"},
		{every, "tenant@y", "tenant@*"},
		{every, "x:tenant@y", "tenant@*"},
		{every, "y!Routing", "*!routing"},
		{every, "tenant@domain", "tenant@domain"},
		{every, "tenant@domain!x", "*@domain"},
		{every, "x:tenant@domain", "*@domain"},
		{every, "campaign:tenant@x", "campaign:tenant@*"},
		{every, "campaign:tenant@domain", "campaign:*@domain"},
		{every, "campaign:tenant@domain!routing", "*@domain!routing"},
		{every, "campaign:tenant@x!routing", "tenant@*!routing"},
		{every, "campaign:x@y!routing", "campaign:*!routing"},
		{every, "somewhere.else", "*"},

		{"campaign:*@*!* x:y@d!*", "campaign:@d", "campaign:*@*!*"},
		{"campaign:*@*!* x:y@d!*", "x:y@D!z", "x:y@d!*"},
		{"*@d!R *@D", "a@d!r", "*@d!R"},
		{"c%3Ax:* c:*", "c%3ax:t@d", "c%3Ax:*"},
		{"my/own/queue", "my/own/queue", "my/own/queue"},
		{"a@b@c", "a@b@c", "a@b@c"},
		{"a@b@c", "a@b@C", "-"},
		{"My/Own", "my/own", "My/Own"}, // a domain as far as anyone can tell
		{"@", "@", "@"},
		{"!r", "!R", "!r"},
		{"*!r", "!r", "*!r"},
	}
	for _, tt := range tests {
		t.Run(tt.queue, func(t *testing.T) {
			p := newPatterns(t, strings.Fields(tt.patterns)...)
			if got := matched(p, tt.queue); got != tt.want {
				t.Errorf("%q matches %q, want %q", tt.queue, got, tt.want)
			}
		})
	}
}

func TestPatternsAdd(t *testing.T) {
	tests := []struct {
		before, pattern, want string // want: part of the error; empty: none
	}{
		{"", "", "pattern is empty"},
		{"", Deferred, "NewScheduler"},
		{"", strings.ToUpper(Deferred), "NewScheduler"},
		{"d", "d", "already"},
		{"d", "D", "already"},
		{"*", "*@*", "same queues already"},
		{"campaign:*", "campaign:*@*!*", "same queues already"},
		{"*@d", "*@D!*", "same queues already"},
		{"T@*", "t@*", ""},
		{"", "foo*", "whole part"},
		{"", "*.example", "whole part"},
		{"", "**", "whole part"},
		{"", "t@*.example", "whole part"},
		{"", "c*:*", "whole part"},
		{"", "*@a%41", "must be followed by"},
		{"", "c:*!", "want campaign:tenant@domain"},
		{"", ":*", "want campaign:tenant@domain"},
		{"", "*!", "want campaign:tenant@domain"},
		{"", "@*", "want campaign:tenant@domain"},
		{"", "c:*!a!b", "want campaign:tenant@domain"},
		{"", "a:b:*", "want campaign:tenant@domain"},
		{"", "a@b@*", "want campaign:tenant@domain"},
		{"", "c:@*", ""},
		{"", "a%2Ab", ""},
		{"", "*:*", ""},
		{"", "c:*!*", ""},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			p := newPatterns(t, strings.Fields(tt.before)...)
			err := p.add(tt.pattern, named("h"))
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("error %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want one with %q", err, tt.want)
			case err != nil && !strings.HasPrefix(err.Error(), "queue: pattern "):
				t.Errorf("error %q does not begin with the package and the pattern", err)
			}
			if tt.before == "" && p.empty() != (err != nil) {
				t.Errorf("empty is %v after error %v", p.empty(), err)
			}
		})
	}
	if err := new(patterns).add("d", nil); err == nil {
		t.Error("a nil handler was taken")
	}
}

// TestPrecedence checks the table against the rule that it spells out.
func TestPrecedence(t *testing.T) {
	seen := map[fixedParts]bool{}
	for i, fixed := range precedence {
		seen[fixed] = true
		if i == 0 {
			continue
		}
		before := precedence[i-1]
		a, b := bits.OnesCount8(uint8(before)), bits.OnesCount8(uint8(fixed))
		if a < b || a == b && before < fixed {
			t.Errorf("%04b stands before %04b", before, fixed)
		}
	}
	if len(seen) != allFixed+1 {
		t.Errorf("%d sets of parts, want %d", len(seen), allFixed+1)
	}
}

// FuzzPatterns checks that what matches, matches by the rule.
func FuzzPatterns(f *testing.F) {
	f.Add("*@d", "c:t@d!r")
	f.Add("c:*", "c:@d")
	f.Add("a@b", "A@B")
	f.Add("*:*@*!*", "%2A")
	f.Fuzz(func(t *testing.T, pattern, queue string) {
		p := new(patterns)
		if p.add(pattern, named("h")) != nil {
			return
		}
		hit := p.match(queue) != nil
		name, ok := parseQueueName(queue)
		switch name = name.lower(); {
		case !strings.Contains(pattern, "*"):
			if want := normalName(pattern) == normalName(queue); hit != want {
				t.Fatalf("exact %q, queue %q: %v", pattern, queue, hit)
			}
			return
		case name == queueName{domain: Deferred}:
			ok = false
			if hit {
				t.Fatalf("%q matches the deferred queue", pattern)
			}
			return
		}
		fixed, err := parsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		want := ok || fixed == queueName{}
		for i, part := range fixed.parts() {
			want = want && (*part == "" || *part == *name.parts()[i])
		}
		if hit != want {
			t.Fatalf("%q, queue %q: %v, want %v", pattern, queue, hit, want)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	p := newPatterns(b, "*", "tenant@*", "*@domain", "campaign:*")
	for i := range 10_000 {
		if err := p.add(fmt.Sprintf("t@d%d.example", i), named("h")); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		p.match("campaign:tenant@d77.example")
	}
}
