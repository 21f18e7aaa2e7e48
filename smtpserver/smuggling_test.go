package smtpserver

import (
	"fmt"
	"testing"
)

// smuggling are the octets that some server somewhere takes for the end of data,
// or some relay passes on so that the next one does (CVE-2023-51764, -51765,
// -51766 and what was found with them). Only CRLF "." CRLF may end it here.
var smuggling = []struct {
	mark  string
	ends  bool   // it ends with CRLF "." CRLF
	allow string // what it becomes under Allow; without the end mark
	fix   string // and under Fix
	clean bool   // Deny takes it too: there is no bare CR or LF
}{
	{mark: "\r\n.\r\n", ends: true, allow: "\r\n", fix: "\r\n", clean: true},
	{mark: "\r\r\n.\r\n", ends: true, allow: "\r\r\n", fix: "\r\n\r\n"},
	{mark: "\n\r\n.\r\n", ends: true, allow: "\n\r\n", fix: "\r\n\r\n"},
	{mark: "\x00\r\n.\r\n", ends: true, allow: "\x00\r\n", fix: "\x00\r\n", clean: true},

	// Bare LF.
	{mark: "\n.\n", allow: "\n.\n", fix: "\r\n.\r\n"},
	{mark: "\n.\r\n", allow: "\n.\r\n", fix: "\r\n.\r\n"},
	{mark: "\n\n.\r\n", allow: "\n\n.\r\n", fix: "\r\n\r\n.\r\n"},
	{mark: "\n\n.\n\n", allow: "\n\n.\n\n", fix: "\r\n\r\n.\r\n\r\n"},
	{mark: "\r\n.\n", allow: "\r\n\n", fix: "\r\n\r\n"},
	{mark: "\r\n.\n\r\n", allow: "\r\n\n\r\n", fix: "\r\n\r\n\r\n"},
	{mark: "\r\n\n.\r\n", allow: "\r\n\n.\r\n", fix: "\r\n\r\n.\r\n"},
	{mark: "\n..\r\n", allow: "\n..\r\n", fix: "\r\n..\r\n"},
	{mark: "\n..\n", allow: "\n..\n", fix: "\r\n..\r\n"},

	// Bare CR.
	{mark: "\r.\r", allow: "\r.\r", fix: "\r\n.\r\n"},
	{mark: "\r.\r\n", allow: "\r.\r\n", fix: "\r\n.\r\n"},
	{mark: "\r\r.\r\r", allow: "\r\r.\r\r", fix: "\r\n\r\n.\r\n\r\n"},
	{mark: "\r\n.\r", allow: "\r\n\r", fix: "\r\n\r\n"},
	{mark: "\r\n.\r\r\n", allow: "\r\n\r\r\n", fix: "\r\n\r\n\r\n"},
	{mark: "\r\n\r.\r\n", allow: "\r\n\r.\r\n", fix: "\r\n\r\n.\r\n"},
	{mark: "\r\n\r.\r", allow: "\r\n\r.\r", fix: "\r\n\r\n.\r\n"},
	{mark: "\r..\r\n", allow: "\r..\r\n", fix: "\r\n..\r\n"},

	// Both.
	{mark: "\n.\r", allow: "\n.\r", fix: "\r\n.\r\n"},
	{mark: "\r.\n", allow: "\r.\n", fix: "\r\n.\r\n"},
	{mark: "\n\r.\n\r", allow: "\n\r.\n\r", fix: "\r\n\r\n.\r\n\r\n"},
	{mark: "\n\r.\r\n", allow: "\n\r.\r\n", fix: "\r\n\r\n.\r\n"},
	{mark: "\r\n.\n\r", allow: "\r\n\n\r", fix: "\r\n\r\n\r\n"},

	// NUL, and white space, which some strip from lines.
	{mark: "\r\n\x00.\r\n", allow: "\r\n\x00.\r\n", fix: "\r\n\x00.\r\n", clean: true},
	{mark: "\r\n.\x00\r\n", allow: "\r\n\x00\r\n", fix: "\r\n\x00\r\n", clean: true},
	{mark: "\r\x00\n.\r\n", allow: "\r\x00\n.\r\n", fix: "\r\n\x00\r\n.\r\n"},
	{mark: "\r\n.\r\x00\n", allow: "\r\n\r\x00\n", fix: "\r\n\r\n\x00\r\n"},
	{mark: "\n\x00.\r\n", allow: "\n\x00.\r\n", fix: "\r\n\x00.\r\n"},
	{mark: "\x00.\x00", allow: "\x00.\x00", fix: "\x00.\x00", clean: true},
	{mark: "\r\n .\r\n", allow: "\r\n .\r\n", fix: "\r\n .\r\n", clean: true},
	{mark: "\r\n. \r\n", allow: "\r\n \r\n", fix: "\r\n \r\n", clean: true},
	{mark: "\r\n.\t\r\n", allow: "\r\n\t\r\n", fix: "\r\n\t\r\n", clean: true},
	{mark: "\v.\v", allow: "\v.\v", fix: "\v.\v", clean: true},
	{mark: "\f.\f", allow: "\f.\f", fix: "\f.\f", clean: true},
	{mark: "\x1a", allow: "\x1a", fix: "\x1a", clean: true},

	// Stuffed dots.
	{mark: "\r\n..\r\n", allow: "\r\n.\r\n", fix: "\r\n.\r\n", clean: true},
	{mark: "\r\n...\r\n", allow: "\r\n..\r\n", fix: "\r\n..\r\n", clean: true},
	{mark: "\r\n..\n", allow: "\r\n.\n", fix: "\r\n.\r\n"},

	// Other line ends and dots: NEL, LS and PS, full-width, ideographic and one-dot-leader
	// dots, CRLF and the dot with the eighth bit set, the dot encoded too long.
	{mark: "\u0085.\u0085", allow: "\u0085.\u0085", fix: "\u0085.\u0085", clean: true},
	{mark: "\x85.\x85", allow: "\x85.\x85", fix: "\x85.\x85", clean: true},
	{mark: "\u2028.\u2029", allow: "\u2028.\u2029", fix: "\u2028.\u2029", clean: true},
	{mark: "\r\n\uff0e\r\n", allow: "\r\n\uff0e\r\n", fix: "\r\n\uff0e\r\n", clean: true},
	{mark: "\r\n\u3002\r\n", allow: "\r\n\u3002\r\n", fix: "\r\n\u3002\r\n", clean: true},
	{mark: "\r\n\u2024\r\n", allow: "\r\n\u2024\r\n", fix: "\r\n\u2024\r\n", clean: true},
	{mark: "\x8d\x8a.\x8d\x8a", allow: "\x8d\x8a.\x8d\x8a", fix: "\x8d\x8a.\x8d\x8a", clean: true},
	{mark: "\r\n\xae\r\n", allow: "\r\n\xae\r\n", fix: "\r\n\xae\r\n", clean: true},
	{mark: "\r\n\xc0\xae\r\n", allow: "\r\n\xc0\xae\r\n", fix: "\r\n\xc0\xae\r\n", clean: true},
	{mark: "\u010d\u010a.\u010d\u010a", allow: "\u010d\u010a.\u010d\u010a", fix: "\u010d\u010a.\u010d\u010a", clean: true},
	{mark: "=0D=0A.=0D=0A", allow: "=0D=0A.=0D=0A", fix: "=0D=0A.=0D=0A", clean: true},
}

// TestDefectsSmuggling puts each mark into a message, with and without mail behind it
// that an attacker wants taken for another, and cuts the stream in two at every
// place.
func TestDefectsSmuggling(t *testing.T) {
	const (
		smuggled = "MAIL FROM:<admin@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nSubject: x\r\n\r\ntext"
		rest     = "QUIT\r\n"
	)
	for _, tt := range smuggling {
		for _, endings := range []LineEndings{Deny, Allow, Fix} {
			for _, header := range []string{"", "Subject: x\r\n\r\n"} {
				for _, behind := range []string{"", smuggled} {
					stream := header + "text" + tt.mark + behind + "\r\n.\r\n" + rest
					want, left := header+"text"+tt.allow, rest
					if endings == Fix {
						want = header + "text" + tt.fix
					}
					if tt.ends {
						left = behind + "\r\n.\r\n" + rest
					} else {
						want += behind + "\r\n"
					}
					refused := endings == Deny && !tt.clean
					checkSmuggling(t, endings, stream, want, left, refused)
				}
			}
		}
	}
}

func checkSmuggling(t *testing.T, endings LineEndings, stream, want, left string, refused bool) {
	t.Helper()
	for split := range len(stream) {
		name := fmt.Sprintf("%q, endings %d, split at %d", stream, endings, split)
		c := content{dotted: true, endings: endings, lineLength: 998, maxHops: 100, maxSize: 10_000}
		v, err := feed(&c, []byte(stream), []int{split, 0})
		switch {
		case err != nil || !v.end:
			t.Fatalf("%s: end %v, error %v", name, v.end, err)
		case stream[v.left:] != left:
			t.Fatalf("%s: behind the end is %q, want %q", name, stream[v.left:], left)
		case refused && v.refusal != replyLineEnding:
			t.Fatalf("%s: refusal %v, want %v", name, v.refusal, replyLineEnding)
		case !refused && (v.refusal != nil || string(v.out) != want):
			t.Fatalf("%s: %q, refusal %v; want %q", name, v.out, v.refusal, want)
		}
	}
}
