package smtpserver

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

func TestMailbox(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := label + "." + label + "." + label + "." + label // 255 octets
	for _, tt := range []struct {
		in   string // as go-smtp returns it
		utf8 bool
		want string // empty: refused
	}{
		{"user@example.com", false, "user@example.com"},
		{"User.Name+tag@Example.COM", false, "User.Name+tag@Example.COM"},
		{"!#$%&'*+-/=?^_`{|}~@example.com", false, "!#$%&'*+-/=?^_`{|}~@example.com"},
		{"user@localhost", false, "user@localhost"},
		{"user@_dmarc.a_b.example", false, "user@_dmarc.a_b.example"},
		{"user@1.2.3.4", false, "user@1.2.3.4"},
		{"a b@example.com", false, `"a b"@example.com`},
		{"a@b@example.com", false, `"a@b"@example.com`},
		{`a"b\c@example.com`, false, `"a\"b\\c"@example.com`},
		{".a@example.com", false, `".a"@example.com`},
		{"a..b@example.com", false, `"a..b"@example.com`},
		{"a.@example.com", false, `"a."@example.com`},
		{"a>b@example.com", false, `"a>b"@example.com`},
		{strings.Repeat("v", 64) + "@example.com", false, strings.Repeat("v", 64) + "@example.com"},
		{strings.Repeat("v", 200) + "@example.com", false, strings.Repeat("v", 200) + "@example.com"},
		{strings.Repeat("v", 64) + "@" + long, false, strings.Repeat("v", 64) + "@" + long},
		{strings.Repeat("v", 65) + "@" + long, false, ""},
		{"v@a" + long, false, ""},
		{"v@" + label + "a.example", false, ""},
		{"user@[192.0.2.1]", false, "user@[192.0.2.1]"},
		{"user@[IPv6:2001:db8::1]", false, "user@[IPv6:2001:db8::1]"},
		{"user@[ipv6:::ffff:192.0.2.1]", false, "user@[ipv6:::ffff:192.0.2.1]"},
		{"user@[x-tag:some,thing]", false, "user@[x-tag:some,thing]"},
		{"user@[192.0.2.256]", false, ""},
		{"user@[192.0.2]", false, ""},
		{"user@[192.0.2.1", false, ""},
		{"user@[]", false, ""},
		{"user@[", false, ""},
		{"user@[2001:db8::1]", false, ""},
		{"user@[IPv6:192.0.2.1]", false, ""},
		{"user@[IPv6:fe80::1%lo]", false, ""},
		{"user@[IPv6:]", false, ""},
		{"user@[:x]", false, ""},
		{"user@[tag-:x]", false, ""},
		{"user@[tag:]", false, ""},
		{"user@[tag:a]b]", false, ""},
		{"user@[tag:a\\b]", false, ""},
		{"user@", false, ""},
		{"@example.com", false, ""},
		{"user", false, ""},
		{"user@.example.com", false, ""},
		{"user@example..com", false, ""},
		{"user@example.com.", false, ""},
		{"user@-a.example", false, ""},
		{"user@a-.example", false, ""},
		{"user@a b.example", false, ""},
		{"user@exa\"mple", false, ""},
		{"user@(c)example.com", false, ""},
		{"user@example.com]", false, ""},
		{"us\x00er@example.com", false, ""},
		{"us\ter@example.com", false, ""},
		{"us\x7fer@example.com", false, ""},
		{"us\r\ner@example.com", true, ""},
		{"üser@example.com", false, ""},
		{"üser@example.com", true, "üser@example.com"},
		{"ü ser@example.com", true, `"ü ser"@example.com`},
		{"user@bücher.example", false, ""},
		{"user@bücher.example", true, "user@bücher.example"},
		{"user@उदाहरण.परीक्षा", true, "user@उदाहरण.परीक्षा"},
		{"user@" + strings.Repeat("ü", 63) + ".example", true, "user@" + strings.Repeat("ü", 63) + ".example"},
		{"user@" + strings.Repeat("ü", 64) + ".example", true, ""},
		{"user@例え。テスト", true, ""}, // not a dot
		{"user@a\u00a0b.example", true, ""},
		{"user@a\u202eb.example", true, ""},
		{"user\u0085@example.com", true, ""},
		{"us\xffer@example.com", true, ""},
		{"user@ex\xc3ample.com", true, ""},
	} {
		got, ok := mailbox(tt.in, tt.utf8)
		if !ok {
			got = ""
		}
		if got != tt.want {
			t.Errorf("mailbox(%q, %v) = %q, want %q", tt.in, tt.utf8, got, tt.want)
		}
	}
	if got, ok := mailbox("", false); got != "" || !ok {
		t.Errorf("the null reverse-path is %q, %v", got, ok)
	}
}

func TestSoundPath(t *testing.T) {
	for line, want := range map[string]bool{
		"RCPT TO:<a@b>\r\n":                      true,
		"RCPT TO:<a@b@c>\r\n":                    false,
		"rcpt to: <a@b@c>\r\n":                   false,
		"RCPT TO:a@b@c\r\n":                      false,
		"MAIL FROM:<a@b@c> SIZE=1\r\n":           false,
		"MAIL FROM:<a@b> AUTH=x@y\r\n":           true,
		"MAIL FROM:<a@b>\tENVID=x@y\r\n":         true,
		"MAIL FROM:<>\r\n":                       true,
		`RCPT TO:<"a@b"@c>` + "\r\n":             true,
		`RCPT TO:<"a@b"@c@d>` + "\r\n":           false,
		`RCPT TO:<"a\"@b"@c>` + "\r\n":           true,
		`RCPT TO:<"a@b` + "\r\n":                 true, // go-smtp refuses it
		"RCPT TO:<@x,@y:a@b>\r\n":                true,
		"RCPT TO:<@x,@y:a@b@c>\r\n":              false,
		"RCPT TO:<@x,@y:\"a@b\"@c> NOTIFY=NEVER": true,
		"RCPT TO:<postmaster>\r\n":               true,
		"EHLO a@b@c\r\n":                         true,
		"NOOP\r\n":                               true,
		"":                                       true,
	} {
		if got := soundPath([]byte(line)); got != want {
			t.Errorf("soundPath(%q) = %v", line, got)
		}
	}
}

func TestRewritePostmaster(t *testing.T) {
	for in, want := range map[string]string{
		"RCPT TO:<postmaster>\r\n":                       "RCPT TO:<postmaster@mx.example>\r\n",
		"rcpt to: <PostMaster> NOTIFY=NEVER\r\n":         "rcpt to: <PostMaster@mx.example> NOTIFY=NEVER\r\n",
		"RCPT  TO:\t<postmaster>\r\n":                    "RCPT  TO:\t<postmaster@mx.example>\r\n",
		"RCPT TO:<postmaster@example.com>\r\n":           "",
		"RCPT TO:<postmasters>\r\n":                      "",
		"RCPT TO:<postmaster":                            "",
		"RCPT TO:<a@b> ORCPT=rfc822;<postmaster>":        "",
		"MAIL FROM:<postmaster>\r\n":                     "",
		"RCPT\tTO:<postmaster>\r\n":                      "",
		"RCPT FOR:<postmaster>\r\n":                      "",
		"RCPT \r\n":                                      "",
		"NOOP TO:<postmaster>\r\n":                       "",
		"":                                               "",
		"RCPT TO:<postmaster> X=<postmaster>\r\n":        "RCPT TO:<postmaster@mx.example> X=<postmaster>\r\n",
		"RCPT TO:<postmaster>" + strings.Repeat(" ", 60): "RCPT TO:<postmaster@mx.example>" + strings.Repeat(" ", 60),
	} {
		line := []byte(in)
		got := string(rewritePostmaster(line, "mx.example"))
		if want == "" {
			want = in
		}
		if got != want {
			t.Errorf("rewritePostmaster(%q) = %q, want %q", in, got, want)
		}
		if string(line) != in {
			t.Errorf("%q became %q", in, line)
		}
	}
	if got, ok := mailbox("postmaster@[192.0.2.1]", false); !ok {
		t.Errorf("with an address literal: %q, %v", got, ok)
	}
}

// A pathReader is go-smtp's server, which reads paths.
type pathReader struct {
	client *smtp.Client
	from   chan string
}

func (r *pathReader) NewSession(*smtp.Conn) (smtp.Session, error) { return r, nil }
func (r *pathReader) Mail(from string, _ *smtp.MailOptions) error { r.from <- from; return nil }
func (r *pathReader) Rcpt(string, *smtp.RcptOptions) error        { return nil }
func (r *pathReader) Data(io.Reader) error                        { return nil }
func (r *pathReader) Reset()                                      {}
func (r *pathReader) Logout() error                               { return nil }

// newPathReader starts go-smtp's server, with a client of go-smtp's.
func newPathReader(t testing.TB) *pathReader {
	t.Helper()
	r := &pathReader{from: make(chan string, 1)}
	server := smtp.NewServer(r)
	server.EnableSMTPUTF8 = true
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("go-smtp's server: %v", err)
		}
	})
	if r.client, err = smtp.Dial(ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.client.Close() })
	return r
}

// read returns what go-smtp makes of path.
func (r *pathReader) read(path string, smtputf8 bool) (string, error) {
	if err := r.client.Mail(path, &smtp.MailOptions{UTF8: smtputf8}); err != nil {
		return "", err
	}
	return <-r.from, r.client.Reset()
}

// TestPaths says what becomes of a path on its way through soundPath, go-smtp and
// mailbox. That go-smtp accepts all of these is why it does not suffice.
func TestPaths(t *testing.T) {
	server := newPathReader(t)
	for _, tt := range []struct{ path, want string }{ // without want it is refused
		{"a@b.example", "a@b.example"},
		{`"a"@b.example`, "a@b.example"},
		{`"a b"@b.example`, `"a b"@b.example`},
		{`"\a\"\\"@b.example`, `"a\"\\"@b.example`},
		{`"a@b"@c.example`, `"a@b"@c.example`},
		{"a@b@c.example", ""},
		{"@x.example,@y.example:a@b.example", "a@b.example"},
		{"@x.example:a@b@c.example", ""},
		{"a..b@c.example", `"a..b"@c.example`},
		{"a@b..example", ""},
		{"a@b.example.", ""},
		{"a@-", ""},
		{"a@[IPv6:::1]", "a@[IPv6:::1]"},
		{"a@[IPv6:::1", ""},
		{`a@b"c`, ""},
		{"a@b,c@d", ""},
		{"a@<b", ""},
		{"a@b;c", ""},
	} {
		read, err := server.read(tt.path, false)
		if err != nil {
			t.Errorf("go-smtp refuses <%s>: %v", tt.path, err)
			server.client.Reset()
			continue
		}
		got, ok := mailbox(read, false)
		if !ok || !soundPath([]byte("MAIL FROM:<"+tt.path+">\r\n")) {
			got = ""
		}
		if got != tt.want {
			t.Errorf("<%s> became %q, want %q", tt.path, got, tt.want)
		}
	}
}

// FuzzMailbox: what mailbox returns can be put into a path, where go-smtp reads it
// as the same address.
func FuzzMailbox(f *testing.F) {
	for _, s := range []string{"user@example.com", `a "b\c@example.com`, "ü@bücher.example", "a@[IPv6:::1]", "a@[x:y]", "a@b@c", "a..b@c", "@", ""} {
		f.Add(s, true)
		f.Add(s, false)
	}
	server := newPathReader(f)
	f.Fuzz(func(t *testing.T, s string, smtputf8 bool) {
		path, ok := mailbox(s, smtputf8)
		if !ok {
			return
		}
		got, err := server.read(path, smtputf8)
		if err != nil || got != s {
			t.Fatalf("%q in a path is %q, which go-smtp reads as %q, %v", s, path, got, err)
		}
		if !soundPath([]byte("MAIL FROM:<" + path + ">\r\n")) {
			t.Errorf("%q is not a sound path", path)
		}
	})
}

// FuzzSoundPath: a path is sound if no "@" but the last stands outside quotes, and
// the one recipient that needs no domain is the only line that is rewritten.
func FuzzSoundPath(f *testing.F) {
	for _, local := range []string{"a", "a@b", `a"@b`, `\@`, "", "postmaster", "@x:a"} {
		f.Add(local, "example.com", true)
		f.Add(local, "[IPv6:::1]", false)
	}
	f.Fuzz(func(t *testing.T, local, domain string, quoted bool) {
		if strings.ContainsAny(domain, " \t>@") {
			return
		}
		want := true
		if quoted {
			local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
		} else if strings.ContainsAny(local, "()<>[]:;\\,\" \t") || strings.HasPrefix(local+"@", "@") {
			return // go-smtp refuses it, or it is a source route
		} else {
			want = !strings.Contains(local, "@")
		}
		line := []byte("RCPT TO:<" + local + "@" + domain + "> X=a@b@c")
		if got := soundPath(line); got != want {
			t.Errorf("soundPath(%q) = %v, want %v", line, got, want)
		}
		if got := rewritePostmaster(line, "mx.example"); string(got) != string(line) {
			t.Errorf("%q became %q", line, got)
		}
	})
}
