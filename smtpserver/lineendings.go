package smtpserver

// LineEndings say what becomes of content in which a line does not end with
// CRLF, or with a CR or LF elsewhere (RFC 5321, section 2.3.8). The content ends at
// CRLF "." CRLF alone, whatever they say, and only behind CRLF is a dot taken
// away: otherwise mail could be smuggled into the content of other mail. The
// content of BODY=BINARYMIME has no lines and passes as it is.
type LineEndings int

const (
	// Deny answers 552 5.6.0.
	Deny LineEndings = iota + 1
	// Allow takes the content as it is. Where it is sent on, "\n.\r\n" and the like
	// may be taken for the end of it.
	Allow
	// Fix makes CRLF of every CR or LF that stands alone.
	Fix
)
