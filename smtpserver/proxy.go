package smtpserver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyPatience is how long the first octet of a PROXY header is awaited where
// the header is optional: a client without one waits for the greeting and says
// nothing.
const proxyPatience = 2 * time.Second

const (
	maxProxyLine   = 107       // version 1, with its CRLF
	proxyPrefix    = 16        // version 2: signature, command, family, length
	maxProxyLength = 4096      // version 2: addresses and TLVs; 64 KiB would be legal
	proxyChecksum  = byte(0x3) // PP2_TYPE_CRC32C
)

var (
	errProxyHeader   = errors.New("smtpserver: malformed PROXY header")
	errProxyLoopback = errors.New("smtpserver: PROXY header claims an address that no client can have")
)

// proxied is what a PROXY header says of the connection behind it.
type proxied struct {
	found bool // there was a header
	local bool // the connection is the proxy's own, and keeps its own addresses

	// The client's end and the one that it connected to, without IPv4 in IPv6.
	// Invalid if the header does not say, or says another protocol than TCP: then
	// nothing is known of the client, and it may not relay by its address.
	source, dest netip.AddrPort
}

// readProxyHeader reads the PROXY header that c begins with, in version 1 or 2
// of HAProxy's PROXY protocol, and blocks until it is complete, until it is
// clear that there is none, or until the read deadline of c. It does not set that
// deadline. Whoever said nothing until then has no header, which is no error.
//
// conn is never nil. It is c with what was read beyond the header in front; after
// an error it must be closed. Errors are errProxyHeader, errProxyLoopback and those
// of c.
func readProxyHeader(c net.Conn) (conn net.Conn, h proxied, err error) {
	r := bufio.NewReaderSize(c, proxyPrefix+maxProxyLength)
	raw, err := peekProxyHeader(r)
	switch {
	case err == nil && raw != nil:
		h, err = parseProxyHeader(raw)
		r.Discard(len(raw))
	case err != nil && r.Buffered() > 0: // begun and not ended
		if !errors.Is(err, errProxyHeader) {
			err = fmt.Errorf("%w: %w", errProxyHeader, err)
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = nil
	case err != nil:
		err = fmt.Errorf("smtpserver: reading a PROXY header: %w", err)
	}
	rest, _ := r.Peek(r.Buffered())
	return &prefixConn{Conn: c, rest: rest}, h, err
}

// peekProxyHeader returns the octets of the header that r begins with, nil if it
// begins with something else. It reads no further than it must to know.
func peekProxyHeader(r *bufio.Reader) ([]byte, error) {
	for n := 1; ; n++ {
		b, err := r.Peek(n)
		switch {
		case err != nil:
			return nil, err
		case bytes.Equal(b, proxyproto.SIGV1):
			return peekProxyLine(r)
		case bytes.Equal(b, proxyproto.SIGV2):
			return peekProxyBlock(r)
		case !bytes.HasPrefix(proxyproto.SIGV1, b) && !bytes.HasPrefix(proxyproto.SIGV2, b):
			return nil, nil
		}
	}
}

// peekProxyLine waits for the end of a header of version 1. Package proxyproto
// would refuse one that does not arrive at once.
func peekProxyLine(r *bufio.Reader) ([]byte, error) {
	for n := len(proxyproto.SIGV1) + 1; n <= maxProxyLine; n++ {
		b, err := r.Peek(n)
		if err != nil {
			return nil, err
		}
		if b[n-1] == '\n' {
			return b, nil
		}
	}
	return nil, fmt.Errorf("%w: longer than %d octets", errProxyHeader, maxProxyLine)
}

// peekProxyBlock waits for the end of a header of version 2.
func peekProxyBlock(r *bufio.Reader) ([]byte, error) {
	prefix, err := r.Peek(proxyPrefix)
	if err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(prefix[proxyPrefix-2:]))
	if n > maxProxyLength {
		return nil, fmt.Errorf("%w: %d octets of addresses and TLVs, want at most %d", errProxyHeader, n, maxProxyLength)
	}
	return r.Peek(proxyPrefix + n)
}

// parseProxyHeader reads raw, which is a whole header and nothing else.
func parseProxyHeader(raw []byte) (proxied, error) {
	h := proxied{found: true}
	v2 := raw[0] == proxyproto.SIGV2[0]
	if v2 && raw[12] == byte(proxyproto.PROXY) && raw[13] == byte(proxyproto.UNSPEC) {
		return h, nil // package proxyproto refuses it; the protocol leaves that open
	}
	header, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(raw), len(raw)))
	switch {
	case err != nil:
		return h, fmt.Errorf("%w: %w", errProxyHeader, err)
	case !v2 && header.TransportProtocol.IsUnspec(): // UNKNOWN; package proxyproto calls it LOCAL
		return h, nil
	case header.Command.IsLocal():
		h.local = true
		return h, nil
	case v2 && !proxyTLVsHold(raw):
		return h, fmt.Errorf("%w: truncated TLV or wrong checksum", errProxyHeader)
	}
	source, dest, ok := header.TCPAddrs()
	if !ok {
		return h, nil
	}
	h.source, h.dest = addrPort(source), addrPort(dest)
	if !claimable(h.source.Addr()) {
		return h, fmt.Errorf("%w: %s", errProxyLoopback, h.source.Addr())
	}
	return h, nil
}

// proxyTLVsHold reports whether the TLVs of a header of version 2 fill it, and
// their checksum, if they have one, is right.
func proxyTLVsHold(raw []byte) bool {
	i := proxyPrefix
	switch family := proxyproto.AddressFamilyAndProtocol(raw[13]); {
	case family.IsIPv4():
		i += 12
	case family.IsIPv6():
		i += 36
	case family.IsUnix():
		i += 216
	}
	for i+3 <= len(raw) {
		kind, value := raw[i], i+3
		i = value + int(binary.BigEndian.Uint16(raw[i+1:]))
		if i > len(raw) {
			return false
		}
		if kind == proxyChecksum && !proxyChecksumHolds(raw, value, i) {
			return false
		}
	}
	return i == len(raw)
}

// proxyChecksumHolds reports whether raw[from:to] is the CRC32C of raw, as it is with
// zeros in that place.
func proxyChecksumHolds(raw []byte, from, to int) bool {
	if to-from != crc32.Size {
		return false
	}
	zeroed := slices.Clone(raw)
	clear(zeroed[from:to])
	return crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli)) == binary.BigEndian.Uint32(raw[from:to])
}

// claimable reports whether ip may be claimed for a client by PROXY or XCLIENT.
// Loopback may not: by default it is trusted.
func claimable(ip netip.Addr) bool {
	return ip.IsValid() && !ip.IsLoopback() && !ip.IsUnspecified() && !ip.IsMulticast()
}

// A prefixConn is a connection of which something was read already. Only one
// goroutine may read from it at a time.
type prefixConn struct {
	net.Conn
	rest []byte
}

// Read returns what was read already, and then what follows.
func (c *prefixConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		c.rest = nil
		return c.Conn.Read(p)
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
