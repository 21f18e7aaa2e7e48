package queue

import (
	"fmt"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

func envelopeTo(addresses ...string) spool.Envelope {
	var env spool.Envelope
	for _, address := range addresses {
		env.Recipients = append(env.Recipients, spool.Recipient{Address: address})
	}
	return env
}

func TestBatches(t *testing.T) {
	tests := []struct {
		name                 string
		to                   []string
		perDomain, perAdress string
	}{
		{"none", nil, "", ""},
		{"one", []string{"a@x"}, "a@x", "a@x"},
		{"order", []string{"a@x", "b@y", "c@x"}, "a@x c@x|b@y", "a@x|b@y|c@x"},
		{"case", []string{"a@X.org", "A@x.ORG"}, "a@X.org A@x.ORG", "a@X.org|A@x.ORG"},
		{"twice", []string{"a@x", "a@x"}, "a@x a@x", "a@x|a@x"},
		{"no domain", []string{"postmaster", "a@x", "root"}, "postmaster root|a@x", "postmaster|a@x|root"},
		{"at sign in the local part", []string{`"a@x"@y`, "b@y"}, `"a@x"@y b@y`, `"a@x"@y|b@y`},
	}
	show := func(batches [][]spool.Recipient) string {
		var all []string
		for _, batch := range batches {
			var one []string
			for _, rcpt := range batch {
				one = append(one, rcpt.Address)
			}
			all = append(all, strings.Join(one, " "))
		}
		return strings.Join(all, "|")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := show(PerDomain(envelopeTo(tt.to...))); got != tt.perDomain {
				t.Errorf("PerDomain: %q, want %q", got, tt.perDomain)
			}
			if got := show(PerRecipient(envelopeTo(tt.to...))); got != tt.perAdress {
				t.Errorf("PerRecipient: %q, want %q", got, tt.perAdress)
			}
		})
	}
}

func TestBatchesKeepParameters(t *testing.T) {
	env := spool.Envelope{Recipients: []spool.Recipient{{Address: "a@x", Notify: []string{"NEVER"}, ORcpt: "rfc822;b@y"}}}
	for name, batch := range map[string]BatchFunc{"PerRecipient": PerRecipient, "PerDomain": PerDomain} {
		batches := batch(env)
		if got, want := fmt.Sprint(batches), fmt.Sprint([][]spool.Recipient{env.Recipients}); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		batches[0][0].Address = "changed"
		if env.Recipients[0].Address != "a@x" {
			t.Errorf("%s: the batch shares its recipients with the envelope", name)
		}
	}
}
