package smtpserver

import (
	"bytes"
	"strings"
	"testing"
)

func TestRewriteORcpt(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"of Postfix", "RCPT TO:<grüße@example.org> ORCPT=rfc822;gr+C3+BC+C3+9Fe@example.org", `RCPT TO:<grüße@example.org> ORCPT=utf-8;gr\x{FC}\x{DF}e@example.org`},
		{"others behind it", "RCPT TO:<a@b.example> NOTIFY=NEVER orcpt=RFC822;+C3+BC NOTIFY=NEVER", `RCPT TO:<a@b.example> NOTIFY=NEVER orcpt=utf-8;\x{FC} NOTIFY=NEVER`},
		{"not encoded", "RCPT TO:<a@b.example> ORCPT=rfc822;ü@b.example", `RCPT TO:<a@b.example> ORCPT=utf-8;\x{FC}@b.example`},
		{"specials", "RCPT TO:<a@b.example> ORCPT=rfc822;+2B+3D+5C+20+C3+BC", `RCPT TO:<a@b.example> ORCPT=utf-8;\x{2B}\x{3D}\x{5C}\x{20}\x{FC}`},
		{"beyond 16 bits", "RCPT TO:<a@b.example> ORCPT=rfc822;+F0+9F+93+AE", `RCPT TO:<a@b.example> ORCPT=utf-8;\x{1F4EE}`},
		{"not UTF-8", "RCPT TO:<a@b.example> ORCPT=rfc822;gr+FC+DFe@b.example NOTIFY=NEVER", "RCPT TO:<a@b.example>  NOTIFY=NEVER"},
		{"ASCII", "RCPT TO:<a@b.example> ORCPT=rfc822;a+2Bb@b.example", ""},
		{"utf-8", `RCPT TO:<a@b.example> ORCPT=utf-8;\x{FC}@b.example`, ""},
		{"malformed", "RCPT TO:<a@b.example> ORCPT=rfc822;+C3+BC+", ""},
		{"no kind", "RCPT TO:<a@b.example> ORCPT=+C3+BC", ""},
		{"none", "RCPT TO:<a@b.example>", ""},
		{"in a local part", `RCPT TO:<"a ORCPT=rfc822;+C3+BC b"@b.example>`, ""},
		{"of another command", "MAIL FROM:<a@b.example> ORCPT=rfc822;+C3+BC", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == "" {
				tt.want = tt.line
			}
			if got := string(rewriteORcpt([]byte(tt.line + "\r\n"))); got != tt.want+"\r\n" {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestShortenSize(t *testing.T) {
	for _, tt := range []struct {
		line, want string // want is empty if the line stays
		size       int64
	}{
		{"MAIL FROM:<a@b.example> SIZE=4294967296", "MAIL FROM:<a@b.example> SIZE=4294967295", 4294967296},
		{"mail from:<> body=8BITMIME size=99999999999 SMTPUTF8", "mail from:<> body=8BITMIME size=4294967295 SMTPUTF8", 99999999999},
		{"MAIL FROM:<> SIZE=99999999999999999999", "MAIL FROM:<> SIZE=4294967295", 1<<63 - 1},
		{"MAIL FROM:<> SIZE=4294967295", "", 0},
		{"MAIL FROM:<> SIZE=999999999999999999999", "", 0},
		{"MAIL FROM:<> SIZE=1234567890x", "", 0},
		{`MAIL FROM:<"a SIZE=99999999999 b"@b.example>`, "", 0},
		{`MAIL FROM:<"a SIZE=99999999999 b"@b.example> SIZE=9999999999`, `MAIL FROM:<"a SIZE=99999999999 b"@b.example> SIZE=4294967295`, 9999999999},
		{"RCPT TO:<a@b.example> SIZE=99999999999", "", 0},
		{"MAIL", "", 0},
	} {
		if tt.want == "" {
			tt.want = tt.line
		}
		if got, size := shortenSize([]byte(tt.line + "\r\n")); string(got) != tt.want+"\r\n" || size != tt.size {
			t.Errorf("%q, %d; want %q, %d", got, size, tt.want, tt.size)
		}
	}
}

// FuzzParameters: lines are changed behind their path only, and only once.
func FuzzParameters(f *testing.F) {
	f.Add("RCPT TO:<a@b.example> ORCPT=rfc822;+C3+BC")
	f.Add(`RCPT TO:<"a> ORCPT=rfc822;+C3+BC"@b.example> ORCPT=rfc822;+FF`)
	f.Add("RCPT TO:<a@b.example> ORCPT=x400;C")
	f.Add("MAIL FROM:<@a.example:b@c.example> SIZE=99999999999")
	f.Fuzz(func(t *testing.T, line string) {
		given := []byte(line)
		orcpt := rewriteORcpt(given)
		size, n := shortenSize(given)
		if string(given) != line {
			t.Fatal("the line of the caller was changed")
		}
		lower := bytes.ToLower(orcpt) // a mark that comes from outside is taken away
		once := bytes.Contains(lower, []byte("rfc822;")) || bytes.Contains(lower, []byte(`\x{e000}`))
		if again := rewriteORcpt(orcpt); !once && !bytes.Equal(again, orcpt) {
			t.Errorf("%q becomes %q becomes %q", line, orcpt, again)
		}
		if again, m := shortenSize(size); n > 0 && (!bytes.Equal(again, size) || m != 0) {
			t.Errorf("%q becomes %q becomes %q", line, size, again)
		}
		for changed, keyword := range map[string][2]string{string(orcpt): {"RCPT", "TO:"}, string(size): {"MAIL", "FROM:"}} {
			path := pathOf(given, keyword[0], keyword[1])
			if front := line[:len(line)-len(path)+pathLength(path)]; !strings.HasPrefix(changed, front) {
				t.Errorf("%q becomes %q, and its path another", line, changed)
			}
		}
	})
}
