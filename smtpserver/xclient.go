package smtpserver

import (
	"net/netip"
	"strconv"
	"strings"
)

// xclientKeyword is the EHLO line for clients that may use XCLIENT.
const xclientKeyword = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"

// Values that say that an attribute is not known, for good or just now.
const (
	xclientUnavailable = "[UNAVAILABLE]"
	xclientTempUnavail = "[TEMPUNAVAIL]"
)

// maxIdentity is how many octets the name of an account may have; RFC 4616, section
// 2, wants at least 255.
const maxIdentity = maxPath

// An xclientAttr is a set of attributes of XCLIENT.
type xclientAttr uint16

const (
	xclientName xclientAttr = 1 << iota
	xclientAddr
	xclientPort
	xclientProto
	xclientHelo
	xclientLogin
	xclientDestAddr
	xclientDestPort
)

// An xclient is what one XCLIENT command says of the client, by Postfix's
// definition (XCLIENT_README). A client may send several; what one does not give
// stays as it was. After ADDR it is for that address to be allowed another one.
type xclient struct {
	given xclientAttr // the others are not in the command

	// Zero if given as not available. The texts have no control characters.
	name     string // the host name of addr
	addr     netip.Addr
	port     uint16
	proto    string // SMTP or ESMTP
	helo     string // printable ASCII, as Session.Hello
	login    string // the client is authenticated as this
	destAddr netip.Addr
	destPort uint16
}

// has reports whether the command gave that attribute.
func (x *xclient) has(a xclientAttr) bool { return x.given&a != 0 }

// remote returns the client's end of the connection, which was old. It is
// invalid if the address is not available: then the client may not relay by it.
func (x *xclient) remote(old netip.AddrPort) netip.AddrPort {
	return x.merge(old, xclientAddr, x.addr, xclientPort, x.port)
}

// local returns the end that the client connected to, which was old.
func (x *xclient) local(old netip.AddrPort) netip.AddrPort {
	return x.merge(old, xclientDestAddr, x.destAddr, xclientDestPort, x.destPort)
}

func (x *xclient) merge(old netip.AddrPort, a xclientAttr, addr netip.Addr, p xclientAttr, port uint16) netip.AddrPort {
	if !x.has(a) {
		addr = old.Addr()
	}
	if !x.has(p) {
		port = old.Port()
	}
	if !addr.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, port)
}

// parseXClient reads the arguments of XCLIENT. Its error is a *reply, and nothing
// of the command holds then.
func parseXClient(args string) (xclient, error) {
	var x xclient
	for arg := range strings.FieldsSeq(args) {
		name, raw, ok := strings.Cut(arg, "=")
		attr, known := xclientAttrs[strings.ToUpper(name)]
		if !known {
			return xclient{}, xclientError("Unknown XCLIENT attribute")
		}
		value, decoded := decodeXText(raw)
		switch {
		case !ok || raw == "":
			return xclient{}, xclientError("XCLIENT attribute without a value")
		case !decoded || !validText(value, true):
			return xclient{}, xclientError("Malformed XCLIENT value")
		case x.has(attr.bit):
			return xclient{}, xclientError("XCLIENT attribute given twice")
		}
		x.given |= attr.bit
		if strings.EqualFold(value, xclientUnavailable) || strings.EqualFold(value, xclientTempUnavail) {
			continue
		}
		if !attr.set(&x, value) {
			return xclient{}, xclientError("Malformed XCLIENT " + strings.ToUpper(name))
		}
	}
	if x.given == 0 {
		return x, xclientError("XCLIENT needs attributes")
	}
	if x.addr.IsValid() && !claimable(x.addr) {
		return xclient{}, &reply{code: 550, enhanced: [3]int{5, 7, 1}, text: "XCLIENT cannot claim that address"}
	}
	return x, nil
}

func xclientError(text string) *reply {
	return &reply{code: 501, enhanced: [3]int{5, 5, 4}, text: text}
}

// xclientAttrs are the attributes by name. set reports whether the value is one.
var xclientAttrs = map[string]struct {
	bit xclientAttr
	set func(x *xclient, value string) bool
}{
	"NAME":     {xclientName, (*xclient).setName},
	"ADDR":     {xclientAddr, func(x *xclient, v string) bool { return parseXAddr(v, &x.addr) }},
	"PORT":     {xclientPort, func(x *xclient, v string) bool { return parseXPort(v, &x.port) }},
	"PROTO":    {xclientProto, (*xclient).setProto},
	"HELO":     {xclientHelo, (*xclient).setHelo},
	"LOGIN":    {xclientLogin, (*xclient).setLogin},
	"DESTADDR": {xclientDestAddr, func(x *xclient, v string) bool { return parseXAddr(v, &x.destAddr) }},
	"DESTPORT": {xclientDestPort, func(x *xclient, v string) bool { return parseXPort(v, &x.destPort) }},
}

func (x *xclient) setName(v string) bool {
	x.name = v
	return v[0] != '[' && validDomain(v, false)
}

func (x *xclient) setProto(v string) bool {
	x.proto = strings.ToUpper(v)
	return x.proto == "SMTP" || x.proto == "ESMTP"
}

func (x *xclient) setHelo(v string) bool {
	x.helo = oneLine(v, maxDomain)
	return len(v) <= maxDomain && !strings.Contains(v, " ")
}

func (x *xclient) setLogin(v string) bool {
	x.login = v
	return validIdentity(v)
}

// validIdentity reports whether s can be the name of an account in metadata,
// records and logs.
func validIdentity(s string) bool {
	return s != "" && len(s) <= maxIdentity && validText(s, true)
}

// parseXAddr reads an address: IPv4, or IPv6 with or without its prefix.
func parseXAddr(s string, to *netip.Addr) bool {
	const prefix = "IPv6:"
	bare := s
	if len(s) > len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		bare = s[len(prefix):]
	}
	ip, err := netip.ParseAddr(bare)
	*to = ip.Unmap()
	return err == nil && ip.Zone() == "" && (bare == s || ip.Is6())
}

func parseXPort(s string, to *uint16) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	*to = uint16(n)
	return err == nil
}

// decodeXText reads xtext (RFC 3461, section 4). What is not encoded although
// it should be is let pass.
func decodeXText(s string) (string, bool) {
	if !strings.Contains(s, "+") {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b = append(b, byte(c))
		i += 2
	}
	return string(b), true
}
