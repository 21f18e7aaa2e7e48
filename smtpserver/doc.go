// Package smtpserver is SMTP reception for a [queue.Scheduler] (RFC 5321): it
// answers 250 as soon as a message is safely stored, before any policy has
// looked at it.
//
// # Usage
//
//	sched, err := queue.NewScheduler(sp, inject, nil)
//	l, err := smtpserver.NewListener(sched, &smtpserver.Options{DeferredQueue: true})
//	go sched.Run(ctx)
//	err = l.ListenAndServe() // 127.0.0.1:2525
//
// A [Listener] does not run the Scheduler; package deferred runs both and stops
// them in the order that loses nothing.
//
// # What a reply means
//
// 250 after the content means that every message of the transaction is durable:
// it survives the loss of power, and the inject callback will see it. Every
// other reply means that nothing was stored, or that what was stored has been
// removed; the exceptions are an ambiguous outcome of the spool and a removal
// that failed, after which a message is injected although its client will send
// it again. Errors of a kind that is not known are answered 4xx without detail, never 5xx.
//
// With [Options.DeferredQueue] nothing of the host's runs after the content
// arrived, but for [Options.Batch]. Without it the inject callbacks of the
// transaction run before the reply.
//
// # Who may send
//
// A deferred listener accepts before it looks, so it must not face the
// internet. Mail is taken only from [Options.RelayHosts], from clients that
// authenticated, by AUTH or by a verified certificate, and over Unix sockets
// and in-memory connections.
//
// # Hosts with a server of their own
//
// [Wrap] puts a Scheduler behind the backend of a go-smtp server, and
// [WrapListener] the connections of this package below it.
//
// # Metadata
//
// Each message has what is known of its reception: reception_protocol (ESMTP or
// LMTP), received_from and received_via (the ends of the connection, ip:port),
// hostname, ehlo_domain and session_id; authn_id and authz_id behind AUTH or LOGIN
// of XCLIENT;
// tls_cipher, tls_protocol_version and, with a client certificate, whether the
// TLS configuration verifies it or not, tls_peer_subject_name, a JSON array, under
// TLS, of the connection itself also behind XCLIENT; orig_received_from and
// orig_received_via where PROXY or XCLIENT claimed another address
// ([Options.Proxy]). What [Override.Meta] and, over that, hooks put into
// [Session.Meta] replaces these. Its tenant becomes the class of the message,
// among which package queue is fair; else that is authn_id, else the network of
// the client, /24 or /64.
//
// # Extensions
//
// PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES, CHUNKING, BINARYMIME, SMTPUTF8, DSN,
// SIZE and LIMITS are always offered; STARTTLS, REQUIRETLS, AUTH and XCLIENT where
// they can be used. The parameters of MAIL and RCPT, but for SIZE and AUTH, are
// kept in the [spool.Envelope]; whoever sends the message on must heed them.
//
// # Strictness
//
// The content must consist of lines that end with CRLF. A bare CR or LF, a line
// over the limit, too many octets or too many Received fields refuse the
// message as a whole, once it was read; nothing of it stays behind.
// [Options.InvalidLineEndings] may let CR and LF pass, or mend them. Content
// that MAIL announced as BINARYMIME comes by BDAT alone and may have any octets;
// whoever sends it on must not use DATA (RFC 3030, section 3). The end of
// DATA is CRLF.CRLF and nothing else, so that no message can be smuggled inside
// another.
package smtpserver
