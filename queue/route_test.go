package queue

import (
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestRoute(t *testing.T) {
	meta := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	tests := []struct {
		name string
		meta map[string]string
		to   string
		want string
	}{
		{"nothing", nil, "a@Example.COM", "example.com"},
		{"tenant", meta("tenant", "T"), "a@d", "T@d"},
		{"campaign", meta("campaign", "C"), "a@d", "C:@d"},
		{"both", meta("campaign", "C", "tenant", "T"), "a@d", "C:T@d"},
		{"routing domain", meta("routing_domain", "MX.Example"), "a@d", "d!mx.example"},
		{"all", meta("campaign", "C", "tenant", "T", "routing_domain", "R"), "a@D", "C:T@d!r"},
		{"queue", meta("queue", "My:Own *", "tenant", "T"), "a@d", "My:Own *"},
		{"empty queue", meta("queue", "", "tenant", "T"), "a@d", "T@d"},
		{"escapes", meta("campaign", "a:b", "tenant", "c@d%", "routing_domain", "e!*"), "a@d", "a%3Ab:c%40d%25@d!e%21%2A"},
		{"address literal", nil, "a@[IPv6:::1]", "[ipv6%3A%3A%3A1]"},
		{"at sign in the local part", nil, `"a@b"@d`, "d"},
		{"no domain", nil, "Postmaster", "@"},
		{"no domain, tenant", meta("tenant", "T"), "Postmaster", "T@"},
		{"no domain, campaign", meta("campaign", "C"), "Postmaster", "C:@"},
		{"no domain, routing domain", meta("routing_domain", "r"), "Postmaster", "!r"},
		{"UTF-8", meta("tenant", "Bücher"), "a@BÜCHER.example", "Bücher@bücher.example"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := route(tt.meta, envelopeTo(tt.to, "b@other")); got != tt.want {
				t.Errorf("route = %q, want %q", got, tt.want)
			}
		})
	}
	if got := route(nil, spool.Envelope{}); got != "@" {
		t.Errorf("route without recipients = %q, want %q", got, "@")
	}
}

func TestRouted(t *testing.T) {
	tests := []struct {
		name, key, before, after string
		want                     bool
	}{
		{"queue set", "queue", "", "q", true},
		{"tenant set", "tenant", "", "t", true},
		{"campaign changed", "campaign", "a", "b", true},
		{"routing domain set", "routing_domain", "", "r", true},
		{"unchanged", "tenant", "t", "t", false},
		{"emptied", "tenant", "t", "", false},
		{"another key", "color", "", "red", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before, after := map[string]string{}, map[string]string{tt.key: tt.after}
			if tt.before != "" {
				before[tt.key] = tt.before
			}
			if got := routed(before, after); got != tt.want {
				t.Errorf("routed = %v, want %v", got, tt.want)
			}
		})
	}
	if routed(nil, nil) {
		t.Error("routed without metadata")
	}
}

func TestParseQueueName(t *testing.T) {
	tests := []struct {
		name string
		want queueName
		ok   bool
	}{
		{"d", queueName{domain: "d"}, true},
		{"t@d", queueName{tenant: "t", domain: "d"}, true},
		{"c:t@d!r", queueName{"c", "t", "d", "r"}, true},
		{"c:@d", queueName{campaign: "c", domain: "d"}, true},
		{"@", queueName{}, true},
		{"t@", queueName{tenant: "t"}, true},
		{"!r", queueName{routing: "r"}, true},
		{"a%3ab:t@d", queueName{campaign: "a:b", tenant: "t", domain: "d"}, true},
		{"deferred.internal", queueName{domain: "deferred.internal"}, true},
		{"", queueName{}, false},
		{"@d", queueName{}, false},
		{":t@d", queueName{}, false},
		{"c:d", queueName{}, false},
		{"d!", queueName{}, false},
		{"d!r!s", queueName{}, false},
		{"a@b@c", queueName{}, false},
		{"a:b:c@d", queueName{}, false},
		{"50%", queueName{}, false},
		{"50%4", queueName{}, false},
		{"50%41", queueName{}, false},
		{"t@*", queueName{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseQueueName(tt.name)
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("got %+v, %v; want %+v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzRoute(f *testing.F) {
	f.Add("c", "t", "a@d", "r")
	f.Add("a:b", "c@d%", `"x@y"@[IPv6:::1]`, "*!")
	f.Add("", "", "postmaster", "")
	f.Add("%3A", "%", "@", "\xff")
	f.Fuzz(func(t *testing.T, campaign, tenant, address, routing string) {
		meta := map[string]string{"campaign": campaign, "tenant": tenant, "routing_domain": routing}
		name := route(meta, envelopeTo(address))
		if name == "" {
			t.Fatal("a queue without a name")
		}
		want := queueName{campaign, tenant, domainOf(address), strings.ToLower(routing)}
		got, ok := parseQueueName(name)
		if !ok || got != want {
			t.Fatalf("%q parses as %q, %v; want %q", name, got, ok, want)
		}
	})
}

func FuzzParseQueueName(f *testing.F) {
	for _, name := range []string{"c:t@d!r", "@", "t@", "!r", "a%3Ab:@d", "c:d", "%%", "*"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		n, ok := parseQueueName(name)
		if !ok {
			return
		}
		if again, ok := parseQueueName(n.String()); !ok || again != n {
			t.Fatalf("%q is %+v, but %q is %+v, %v", name, n, n.String(), again, ok)
		}
	})
}
