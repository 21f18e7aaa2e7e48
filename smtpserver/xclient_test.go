package smtpserver

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode"
)

func TestParseXClient(t *testing.T) {
	ip := netip.MustParseAddr
	for _, tt := range []struct {
		args string
		want xclient
		code int // of the refusal
	}{
		{"NAME=spike.example ADDR=168.100.189.2", xclient{given: xclientName | xclientAddr, name: "spike.example", addr: ip("168.100.189.2")}, 0},
		{"name=spike.example Addr=192.0.2.1", xclient{given: xclientName | xclientAddr, name: "spike.example", addr: ip("192.0.2.1")}, 0},
		{"ADDR=IPV6:2001:db8::1 PORT=12345", xclient{given: xclientAddr | xclientPort, addr: ip("2001:db8::1"), port: 12345}, 0},
		{"ADDR=ipv6:2001:DB8::1", xclient{given: xclientAddr, addr: ip("2001:db8::1")}, 0},
		{"ADDR=2001:db8::1", xclient{given: xclientAddr, addr: ip("2001:db8::1")}, 0},
		{"ADDR=IPV6:::ffff:192.0.2.1", xclient{given: xclientAddr, addr: ip("192.0.2.1")}, 0},
		{"ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL]", xclient{given: xclientAddr | xclientName}, 0},
		{"NAME=[unavailable] LOGIN=[UNAVAILABLE] HELO=[UNAVAILABLE]", xclient{given: xclientName | xclientLogin | xclientHelo}, 0},
		{"PROTO=esmtp HELO=client.example", xclient{given: xclientProto | xclientHelo, proto: "ESMTP", helo: "client.example"}, 0},
		{"PROTO=SMTP", xclient{given: xclientProto, proto: "SMTP"}, 0},
		{"HELO=[192.0.2.1]", xclient{given: xclientHelo, helo: "[192.0.2.1]"}, 0},
		{"HELO=b+C3+BCcher.example", xclient{given: xclientHelo, helo: "b?cher.example"}, 0},
		{"LOGIN=user+40example.com", xclient{given: xclientLogin, login: "user@example.com"}, 0},
		{"LOGIN=user+2Btag", xclient{given: xclientLogin, login: "user+tag"}, 0},
		{"LOGIN=a=b", xclient{given: xclientLogin, login: "a=b"}, 0},
		{"LOGIN=+c3+bcser", xclient{given: xclientLogin, login: "üser"}, 0},
		{"LOGIN=a+20b", xclient{given: xclientLogin, login: "a b"}, 0},
		{"DESTADDR=198.51.100.1 DESTPORT=25", xclient{given: xclientDestAddr | xclientDestPort, destAddr: ip("198.51.100.1"), destPort: 25}, 0},
		{"DESTADDR=127.0.0.1", xclient{given: xclientDestAddr, destAddr: ip("127.0.0.1")}, 0},
		{"PORT=0 DESTPORT=65535", xclient{given: xclientPort | xclientDestPort, destPort: 65535}, 0},
		{"", xclient{}, 501},
		{"NAME", xclient{}, 501},
		{"NAME=", xclient{}, 501},
		{"=x", xclient{}, 501},
		{"COLOUR=red", xclient{}, 501},
		{"NAME=a NAME=b", xclient{}, 501},
		{"NAME=spike..example", xclient{}, 501},
		{"NAME=[192.0.2.1]", xclient{}, 501},
		{"NAME=a+0D+0Ab", xclient{}, 501},
		{"NAME=" + strings.Repeat("a.", 128) + "b", xclient{}, 501},
		{"ADDR=192.0.2", xclient{}, 501},
		{"ADDR=192.0.2.1/24", xclient{}, 501},
		{"ADDR=fe80::1%lo", xclient{}, 501},
		{"ADDR=IPV6:192.0.2.1", xclient{}, 501},
		{"ADDR=[192.0.2.1]", xclient{}, 501},
		{"PORT=65536", xclient{}, 501},
		{"PORT=-1", xclient{}, 501},
		{"PORT=+2B1", xclient{}, 501},
		{"PROTO=LMTP", xclient{}, 501},
		{"HELO=a+20b", xclient{}, 501},
		{"HELO=a+07b", xclient{}, 501},
		{"HELO=" + strings.Repeat("a", 256), xclient{}, 501},
		{"LOGIN=a+", xclient{}, 501},
		{"LOGIN=a+4", xclient{}, 501},
		{"LOGIN=a+4x", xclient{}, 501},
		{"LOGIN=a+-1", xclient{}, 501},
		{"LOGIN=a+00b", xclient{}, 501},
		{"LOGIN=a+FFb", xclient{}, 501},
		{"LOGIN=a\xffb", xclient{}, 501},
		{"LOGIN=a+C2+85b", xclient{}, 501},
		{"LOGIN=" + strings.Repeat("a", maxIdentity+1), xclient{}, 501},
		{"ADDR=127.0.0.1", xclient{}, 550},
		{"ADDR=127.1.2.3", xclient{}, 550},
		{"ADDR=IPV6:::1", xclient{}, 550},
		{"ADDR=IPV6:::ffff:127.0.0.1", xclient{}, 550},
		{"ADDR=0.0.0.0", xclient{}, 550},
		{"ADDR=ff02::1", xclient{}, 550},
	} {
		got, err := parseXClient(tt.args)
		var r *reply
		if errors.As(err, &r); (r != nil) != (tt.code != 0) || r != nil && r.code != tt.code {
			t.Errorf("XCLIENT %.60q: %v, want %d", tt.args, err, tt.code)
		}
		if got != tt.want {
			t.Errorf("XCLIENT %.60q: %+v, want %+v", tt.args, got, tt.want)
		}
	}
}

// TestXClientMerge: what a command does not give stays as it was.
func TestXClientMerge(t *testing.T) {
	old := netip.MustParseAddrPort("198.51.100.7:1000")
	for args, want := range map[string]string{
		"HELO=x":                          "198.51.100.7:1000",
		"ADDR=192.0.2.1":                  "192.0.2.1:1000",
		"PORT=25":                         "198.51.100.7:25",
		"ADDR=IPV6:2001:db8::1 PORT=2525": "[2001:db8::1]:2525",
		"ADDR=[UNAVAILABLE]":              "invalid AddrPort",
		"ADDR=[UNAVAILABLE] PORT=25":      "invalid AddrPort",
		"PORT=[UNAVAILABLE]":              "198.51.100.7:0",
	} {
		for prefix, end := range map[string]func(*xclient, netip.AddrPort) netip.AddrPort{"": (*xclient).remote, "DEST": (*xclient).local} {
			given := strings.NewReplacer("ADDR", prefix+"ADDR", "PORT", prefix+"PORT").Replace(args)
			x, err := parseXClient(given)
			if err != nil {
				t.Fatalf("%s: %v", given, err)
			}
			if got := end(&x, old).String(); got != want {
				t.Errorf("XCLIENT %s: %s, want %s", given, got, want)
			}
		}
	}
	if x, err := parseXClient("PORT=25"); err != nil || x.remote(netip.AddrPort{}).IsValid() {
		t.Error("a port made an address")
	}
}

// TestXClientKeyword: what EHLO offers is what is understood.
func TestXClientKeyword(t *testing.T) {
	words := strings.Fields(xclientKeyword)
	if words[0] != "XCLIENT" || len(words) != len(xclientAttrs)+1 {
		t.Fatalf("keyword %q", xclientKeyword)
	}
	for _, name := range words[1:] {
		if _, err := parseXClient(name + "=[UNAVAILABLE]"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseXClient: nothing that a command gives is unfit for a header or a log,
// and no address is one that is trusted by default.
func FuzzParseXClient(f *testing.F) {
	f.Add("NAME=spike.example ADDR=192.0.2.1 PORT=1 PROTO=ESMTP HELO=x LOGIN=a+40b DESTADDR=IPV6:::1 DESTPORT=25")
	f.Add("NAME=[UNAVAILABLE] ADDR=[TEMPUNAVAIL]")
	f.Add("HELO=+0D+0A LOGIN=+C2+85")
	f.Fuzz(func(t *testing.T, args string) {
		x, err := parseXClient(args)
		if err != nil {
			var r *reply
			if !errors.As(err, &r) || r.code < 500 || len(r.line()) > maxReply || !isPrintable(r.text) {
				t.Errorf("XCLIENT %q: %v", args, err)
			}
			return
		}
		for _, s := range []string{x.name, x.proto, x.helo, x.login} {
			if strings.ContainsFunc(s, unicode.IsControl) || len(s) > maxIdentity {
				t.Errorf("XCLIENT %q gave %q", args, s)
			}
		}
		if x.addr.IsValid() && !claimable(x.addr) || x.addr.Zone() != "" || x.addr.Is4In6() {
			t.Errorf("XCLIENT %q gave %s", args, x.addr)
		}
		if x.given == 0 {
			t.Errorf("XCLIENT %q gave nothing", args)
		}
	})
}
