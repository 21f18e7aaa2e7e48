package smtpserver

// receivedName is how a trace field begins, in lower case (RFC 5321, section 4.4).
const receivedName = "received:"

// A hopCounter counts the Received fields in the header of a message, which ends
// at the first empty line (RFC 5321, section 6.3). It takes the header in pieces
// of any size.
type hopCounter struct {
	done    bool // the header has ended
	n       int  // Received fields so far
	matched int  // how much of receivedName the line has shown, -1 if it is something else
}

// text takes octets of a line, without its ending.
func (h *hopCounter) text(p []byte) {
	for _, b := range p {
		if h.matched < 0 || h.matched == len(receivedName) {
			return
		}
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		switch {
		case b == receivedName[h.matched]:
			h.matched++
		case (b == ' ' || b == '\t') && h.matched == len(receivedName)-1:
			// White space before the colon is obsolete syntax (RFC 5322, section 4.5).
		default:
			h.matched = -1
		}
	}
}

// lineEnd says that the line is complete, and whether it was empty. A field
// counts at the end of its first line.
func (h *hopCounter) lineEnd(empty bool) {
	if h.matched == len(receivedName) {
		h.n++
	}
	h.matched = 0
	h.done = empty
}
