package smtpserver

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestTraceOctets: whatever octet an address has, what is written of it in trace
// fields is what the general rules say.
func TestTraceOctets(t *testing.T) {
	for c := range 0x80 {
		part := "a" + string(rune(c)) + "b"
		want, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendJSON(nil, part); string(got) != string(want) {
			t.Errorf("appendJSON of %q: got %s, want %s", part, got, want)
		}
		path, ok := quotePath(part + "@d.example")
		switch control, special := c < ' ' || c == 0x7f, strings.ContainsRune(" ()<>[]:;@\\,\"", rune(c)); {
		case control && ok:
			t.Errorf("quotePath of %q: got %q, want none", part, path)
		case !control && (!ok || strings.HasPrefix(path, `"`) != special):
			t.Errorf("quotePath of %q: got %q, %v; want it quoted: %v", part, path, ok, special)
		}
		_, ok = quotePath("a@d" + string(rune(c)) + "e")
		if bad := c < ' ' || c == 0x7f || strings.ContainsRune(" <>()\\\",;", rune(c)); ok == bad {
			t.Errorf("quotePath of the domain %q: got %v, want %v", "d"+string(rune(c))+"e", ok, !bad)
		}
	}
}
