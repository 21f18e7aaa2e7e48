package smtpserver

import "bytes"

// Replies that stand for go-smtp's.
var (
	replySenderOK    = &reply{code: 250, enhanced: [3]int{2, 1, 0}, text: "Sender OK"}
	replyRecipientOK = &reply{code: 250, enhanced: [3]int{2, 1, 5}, text: "Recipient OK"}
	replyAuthOK      = &reply{code: 235, enhanced: [3]int{2, 7, 0}, text: "Authentication succeeded"}
	replyParameter   = &reply{code: 555, enhanced: [3]int{5, 5, 4}, text: "Parameter not recognized or not implemented"}
)

// corrections are replies of go-smtp's that RFC 5321 or another wants otherwise,
// by command and code. The lines are ready to be sent.
var corrections = map[string]map[int][]byte{
	"MAIL": {
		250: replySenderOK.line(),  // go-smtp's has the address, in whatever characters
		500: replyParameter.line(), // RFC 5321, section 4.1.1.11
		504: replyParameter.line(),
	},
	"RCPT": {
		250: replyRecipientOK.line(),
		500: replyParameter.line(),
		504: replyParameter.line(),
	},
	"AUTH": {
		235: replyAuthOK.line(),               // RFC 4954, section 4
		454: replyCredentialsMalformed.line(), // that is for base64 which is none
	},
}

// correct returns what is sent instead of a line of go-smtp's that ends a reply.
func (d *dialogue) correct(code int, line []byte) (int, []byte) {
	if d.own {
		return code, line
	}
	switch {
	case code == 500 && bytes.Contains(line, []byte("Malformed ")): // a parameter that is known
		return 501, append([]byte("501"), line[3:]...)
	case code == 502 && bytes.Contains(line, []byte("Missing parameter")):
		return 501, append([]byte("501"), line[3:]...)
	}
	if better := corrections[d.verb][code]; better != nil {
		code, _ = replyCode(better)
		return code, better
	}
	if code == 502 && sequenced[d.verb] { // RFC 5321, section 4.2.4
		return 503, append([]byte("503"), line[3:]...)
	}
	return code, line
}

// sequenced are the commands that have their place.
var sequenced = map[string]bool{"MAIL": true, "RCPT": true, "DATA": true, "AUTH": true}
