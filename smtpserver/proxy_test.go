package smtpserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// A readConn is a connection that only reads.
type readConn struct {
	net.Conn
	r io.Reader
}

func (c readConn) Read(p []byte) (int, error) { return c.r.Read(p) }

const v2Signature = "\r\n\r\n\x00\r\nQUIT\n"

// v2Header builds a header of version 2.
func v2Header(command, family byte, parts ...string) string {
	payload := strings.Join(parts, "")
	b := append([]byte(v2Signature), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return string(b) + payload
}

// withChecksum appends a checksum to a header, and changes it by xor.
func withChecksum(header string, xor byte) string {
	b := append([]byte(header), 3, 0, 4, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	b = binary.BigEndian.AppendUint32(b[:len(b)-4], sum)
	b[len(b)-1] ^= xor
	return string(b)
}

const (
	tcp4     = "\xc0\x00\x02\x01" + "\xc6\x33\x64\x02" + "\x30\x39" + "\x00\x19" // 192.0.2.1:12345 to 198.51.100.2:25
	loopback = "\x7f\x00\x00\x01" + "\xc6\x33\x64\x02" + "\x30\x39" + "\x00\x19"
	tcp6     = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x30\x39" + "\x00\x19"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x02" + "\x30\x39" + "\x00\x19"
	mappedLoopback = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x7f\x00\x00\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x02" + "\x30\x39" + "\x00\x19"
)

var proxyHeaders = []struct {
	name, header string
	want         proxied
	err          error
}{
	{"1 TCP4", "PROXY TCP4 192.0.2.1 198.51.100.2 12345 25\r\n", ends("192.0.2.1:12345", "198.51.100.2:25"), nil},
	{"1 TCP6", "PROXY TCP6 2001:db8::1 2001:db8::2 12345 25\r\n", ends("[2001:db8::1]:12345", "[2001:db8::2]:25"), nil},
	{"1 TCP6, IPv4 in it", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 12345 25\r\n", ends("192.0.2.1:12345", "198.51.100.2:25"), nil},
	{"1 to loopback", "PROXY TCP4 192.0.2.1 127.0.0.1 12345 25\r\n", ends("192.0.2.1:12345", "127.0.0.1:25"), nil},
	{"1 UNKNOWN", "PROXY UNKNOWN\r\n", proxied{found: true}, nil},
	{"1 UNKNOWN, addresses ignored", "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", proxied{found: true}, nil},
	{"1 from loopback", "PROXY TCP4 127.0.0.1 198.51.100.2 12345 25\r\n", proxied{}, errProxyLoopback},
	{"1 from loopback, all of the net", "PROXY TCP4 127.8.9.1 198.51.100.2 12345 25\r\n", proxied{}, errProxyLoopback},
	{"1 from ::1", "PROXY TCP6 ::1 2001:db8::2 12345 25\r\n", proxied{}, errProxyLoopback},
	{"1 from ::ffff:127.0.0.1", "PROXY TCP6 ::ffff:127.0.0.1 2001:db8::2 12345 25\r\n", proxied{}, errProxyLoopback},
	{"1 from unspecified", "PROXY TCP4 0.0.0.0 198.51.100.2 12345 25\r\n", proxied{}, errProxyLoopback},
	{"1 from multicast", "PROXY TCP4 224.0.0.1 198.51.100.2 12345 25\r\n", proxied{}, errProxyLoopback},
	{"1 no CR", "PROXY TCP4 192.0.2.1 198.51.100.2 12345 25\n", proxied{}, errProxyHeader},
	{"1 family mismatch", "PROXY TCP4 2001:db8::1 198.51.100.2 12345 25\r\n", proxied{}, errProxyHeader},
	{"1 zone", "PROXY TCP6 fe80::1%lo 2001:db8::2 12345 25\r\n", proxied{}, errProxyHeader},
	{"1 port", "PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n", proxied{}, errProxyHeader},
	{"1 UDP", "PROXY UDP4 192.0.2.1 198.51.100.2 12345 25\r\n", proxied{}, errProxyHeader},
	{"1 too few", "PROXY TCP4 192.0.2.1\r\n", proxied{}, errProxyHeader},
	{"1 other word", "PROXYING TCP4 192.0.2.1 198.51.100.2 12345 25\r\n", proxied{}, errProxyHeader},
	{"1 endless", "PROXY TCP4 " + strings.Repeat("1", 5000), proxied{}, errProxyHeader},
	{"1 truncated", "PROXY TCP4 192.0.2.1", proxied{}, errProxyHeader},
	{"1 begun", "PRO", proxied{}, errProxyHeader},
	{"2 TCP4", v2Header(0x21, 0x11, tcp4), ends("192.0.2.1:12345", "198.51.100.2:25"), nil},
	{"2 TCP6", v2Header(0x21, 0x21, tcp6), ends("[2001:db8::1]:12345", "[2001:db8::2]:25"), nil},
	{"2 TCP6, IPv4 in it", v2Header(0x21, 0x21, mapped), ends("192.0.2.1:12345", "198.51.100.2:25"), nil},
	{"2 TLVs", v2Header(0x21, 0x11, tcp4, "\x04\x00\x02..", "\x02\x00\x02mx"), ends("192.0.2.1:12345", "198.51.100.2:25"), nil},
	{"2 largest", v2Header(0x21, 0x11, tcp4, "\x04\x0f\xf1", strings.Repeat("x", 4096-12-3)), ends("192.0.2.1:12345", "198.51.100.2:25"), nil},
	{"2 checksum", withChecksum(v2Header(0x21, 0x11, tcp4, "\x02\x00\x02mx"), 0), ends("192.0.2.1:12345", "198.51.100.2:25"), nil},
	{"2 wrong checksum", withChecksum(v2Header(0x21, 0x11, tcp4, "\x02\x00\x02mx"), 1), proxied{}, errProxyHeader},
	{"2 short checksum", v2Header(0x21, 0x11, tcp4, "\x03\x00\x02mx"), proxied{}, errProxyHeader},
	{"2 truncated TLV", v2Header(0x21, 0x11, tcp4, "\x02\x00\x05mx"), proxied{}, errProxyHeader},
	{"2 half a TLV", v2Header(0x21, 0x11, tcp4, "\x02\x00"), proxied{}, errProxyHeader},
	{"2 LOCAL", v2Header(0x20, 0x00), proxied{found: true, local: true}, nil},
	{"2 LOCAL, anything in it", v2Header(0x20, 0x11, "abc"), proxied{found: true, local: true}, nil},
	{"2 LOCAL, loopback in it", v2Header(0x20, 0x11, loopback), proxied{found: true, local: true}, nil},
	{"2 UNSPEC", v2Header(0x21, 0x00, "whatever"), proxied{found: true}, nil},
	{"2 UDP4", v2Header(0x21, 0x12, tcp4), proxied{found: true}, nil},
	{"2 Unix", v2Header(0x21, 0x31, strings.Repeat("\x00", 216)), proxied{found: true}, nil},
	{"2 from loopback", v2Header(0x21, 0x11, loopback), proxied{}, errProxyLoopback},
	{"2 from ::ffff:127.0.0.1", v2Header(0x21, 0x21, mappedLoopback), proxied{}, errProxyLoopback},
	{"2 too short", v2Header(0x21, 0x11, tcp4[:11]), proxied{}, errProxyHeader},
	{"2 command", v2Header(0x22, 0x11, tcp4), proxied{}, errProxyHeader},
	{"2 version", v2Header(0x31, 0x11, tcp4), proxied{}, errProxyHeader},
	{"2 family", v2Header(0x21, 0x13, tcp4), proxied{}, errProxyHeader},
	{"2 too long", v2Header(0x21, 0x11, tcp4, "\x04\x0f\xf2", strings.Repeat("x", 4096-12-2)), proxied{}, errProxyHeader},
	{"2 truncated", v2Header(0x21, 0x11, tcp4)[:27], proxied{}, errProxyHeader},
	{"2 begun", v2Signature[:7], proxied{}, errProxyHeader},
	{"none", "", proxied{}, io.EOF},
	{"none, EHLO", "EHLO x\r\n", proxied{}, nil},
	{"none, P", "PRIX\r\n", proxied{}, nil},
	{"none, CRLF", "\r\n\r\n.", proxied{}, nil},
	{"none, TLS", "\x16\x03\x01\x02\x00", proxied{}, nil},
}

// ends is a header that names both.
func ends(source, dest string) proxied {
	return proxied{found: true, source: netip.MustParseAddrPort(source), dest: netip.MustParseAddrPort(dest)}
}

func TestReadProxyHeader(t *testing.T) {
	const behind = "EHLO behind\r\n"
	for _, tt := range proxyHeaders {
		for how, wrap := range map[string]func(io.Reader) io.Reader{"at once": justRead, "by octets": iotest.OneByteReader} {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				input := tt.header
				if tt.err == nil {
					input += behind
				}
				conn, got, err := readProxyHeader(readConn{r: wrap(strings.NewReader(input))})
				if !errors.Is(err, tt.err) {
					t.Fatalf("error %v, want %v", err, tt.err)
				}
				if err != nil {
					return
				}
				if got != tt.want {
					t.Errorf("%+v, want %+v", got, tt.want)
				}
				want := behind
				if !tt.want.found {
					want = input
				}
				if rest, err := io.ReadAll(conn); string(rest) != want || err != nil {
					t.Errorf("behind the header: %q, %v; want %q", rest, err, want)
				}
			})
		}
	}
}

func justRead(r io.Reader) io.Reader { return r }

// TestNoProxyHeader: whoever says nothing has no header, and is served.
func TestNoProxyHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		server.SetReadDeadline(time.Now().Add(proxyPatience))
		conn, h, err := readProxyHeader(server)
		if err != nil || h != (proxied{}) {
			t.Fatalf("%+v, %v; want nothing", h, err)
		}
		conn.SetReadDeadline(time.Time{})
		go client.Write([]byte("EHLO x\r\n"))
		line := make([]byte, 8)
		if _, err := io.ReadFull(conn, line); err != nil || string(line) != "EHLO x\r\n" {
			t.Errorf("behind it: %q, %v", line, err)
		}
	})
}

// TestStalledProxyHeader: a header that was begun has to come.
func TestStalledProxyHeader(t *testing.T) {
	for _, begun := range []string{"P", "PROXY TCP4 192.0.2.1", v2Signature + "\x21\x11"} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			go client.Write([]byte(begun))
			server.SetReadDeadline(time.Now().Add(proxyPatience))
			if _, _, err := readProxyHeader(server); !errors.Is(err, errProxyHeader) {
				t.Errorf("%q: error %v, want errProxyHeader", begun, err)
			}
		})
	}
}

// FuzzProxyHeader: no input panics, or loses what is behind the header.
func FuzzProxyHeader(f *testing.F) {
	for _, tt := range proxyHeaders {
		f.Add([]byte(tt.header))
		f.Add([]byte(tt.header + "EHLO x\r\n"))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		conn, h, err := readProxyHeader(readConn{r: bytes.NewReader(input)})
		if conn == nil {
			t.Fatal("no connection")
		}
		again, split, splitErr := readProxyHeader(readConn{r: iotest.OneByteReader(bytes.NewReader(input))})
		if h != split || (err == nil) != (splitErr == nil) {
			t.Errorf("%+v, %v at once; %+v, %v octet by octet", h, err, split, splitErr)
		}
		if err != nil {
			return
		}
		if h.source.IsValid() && (!claimable(h.source.Addr()) || h.source.Addr().Is4In6()) {
			t.Errorf("source %s", h.source)
		}
		rest, _ := io.ReadAll(conn)
		if !bytes.HasSuffix(input, rest) || !h.found && len(rest) != len(input) {
			t.Errorf("%q lost octets of %q", rest, input)
		}
		if header := input[:len(input)-len(rest)]; h.found && !wholeProxyHeader(header) {
			t.Errorf("%q is not just a header", header)
		}
		if rest2, _ := io.ReadAll(again); !bytes.Equal(rest, rest2) {
			t.Errorf("%q at once, %q octet by octet", rest, rest2)
		}
	})
}

// wholeProxyHeader reports whether b ends where its header does.
func wholeProxyHeader(b []byte) bool {
	if bytes.HasPrefix(b, []byte(v2Signature)) {
		return len(b) >= 16 && len(b) == 16+int(binary.BigEndian.Uint16(b[14:]))
	}
	return slices.Index(b, '\n') == len(b)-1
}
