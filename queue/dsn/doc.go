// Package dsn writes delivery status notifications: what a sender is told about a
// message that failed, is delayed, or was passed on (RFC 3461, 3464, 6522, and RFC
// 6533 for internationalized mail).
//
// A Scheduler with queue.Options.Notices sends them by itself. A host that sends
// its own fills in a [Report], writes it with [Report.Write] and hands it to its
// queue with the envelope that [Report.NoticeEnvelope] returns.
//
// # What senders asked for
//
// [Wanted] reads the NOTIFY parameter of a recipient: without one, failures and
// delays are reported, successes are not. A message with the null reverse-path is
// never answered. RET decides whether a failure returns the content or the header
// alone; all other notices have the header.
//
// RET=FULL is honoured for content that may stand in a notice as it is, 8-bit content
// included, up to [Report.MaxContent]. The header alone is returned of content that
// has a line of more than 998 octets, a bare CR or LF or a NUL, since encoding it would
// make another message of it, and of content whose header is not ASCII, unless the
// sender's address needs SMTPUTF8.
//
// # Form
//
// Whatever an envelope, a reply of another host or the header of the message
// contains, a notice is well-formed: lines of at most 998 octets that end with
// CRLF, ASCII unless the sender's own address needs SMTPUTF8 or 8-bit content is
// returned, and no field that another one has smuggled in.
package dsn
