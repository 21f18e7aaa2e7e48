package smtpserver

// Replies that are the same every time.
var (
	replyDraining  = &reply{code: 421, enhanced: [3]int{4, 3, 2}, text: "Service shutting down, try again later", close: true}
	replyPanic     = &reply{code: 421, enhanced: [3]int{4, 3, 0}, text: "Internal error, try again later", close: true}
	replyTemporary = &reply{code: 451, enhanced: [3]int{4, 3, 0}, text: "Temporary failure, try again later"}
	replyStorage   = &reply{code: 451, enhanced: [3]int{4, 3, 0}, text: "Storage failed, try again later"}
	replyFull      = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Insufficient disk space, try again later"}
	replyInodes    = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Insufficient inodes, try again later"}
	replyQuota     = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Spool quota reached, try again later"}
	replyMemory    = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Insufficient memory, try again later"}
	replyBusy      = &reply{code: 451, enhanced: [3]int{4, 3, 2}, text: "Too busy, try again later"}
	replyRecords   = &reply{code: 451, enhanced: [3]int{4, 3, 2}, text: "Too many log records are waiting, try again later"}

	replyQueuedMessages = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Too many messages are queued, try again later"}
	replyQueuedBytes    = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Too many bytes are queued, try again later"}
	replyQueuedAge      = &reply{code: 451, enhanced: [3]int{4, 3, 2}, text: "Queued messages are waiting too long, try again later"}

	replyProcessing           = &reply{code: 451, enhanced: [3]int{4, 4, 5}, text: "Processing took too long, try again later"}
	replyIdle                 = &reply{code: 421, enhanced: [3]int{4, 4, 2}, text: "Timeout waiting for the client, closing connection", close: true}
	replyLost                 = &reply{code: 421, enhanced: [3]int{4, 4, 2}, text: "Connection broken, nothing was accepted", close: true}
	replyTooMany              = &reply{code: 421, enhanced: [3]int{4, 3, 2}, text: "Too many connections, try again later", close: true}
	replyMessages             = &reply{code: 421, enhanced: [3]int{4, 7, 0}, text: "Too many messages on this connection, open another", close: true}
	replyErrors               = &reply{code: 421, enhanced: [3]int{4, 7, 0}, text: "Too many errors, closing connection", close: true}
	replyHello                = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Say EHLO first"}
	replyHelloLong            = &reply{code: 501, enhanced: [3]int{5, 5, 4}, text: "Domain is too long"}
	replyNested               = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Sender already given, say RSET first"}
	replyNoMail               = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Say MAIL first"}
	replyNeedTLS              = &reply{code: 530, enhanced: [3]int{5, 7, 0}, text: "Must issue a STARTTLS command first"}
	replyNeedAuth             = &reply{code: 530, enhanced: [3]int{5, 7, 0}, text: "Authentication required"}
	replyRelay                = &reply{code: 550, enhanced: [3]int{5, 7, 1}, text: "Relaying not permitted"}
	replyCredentialsMalformed = &reply{code: 501, enhanced: [3]int{5, 5, 2}, text: "Malformed authentication response"}
	replyCredentials          = &reply{code: 454, enhanced: [3]int{4, 7, 0}, text: "Temporary authentication failure"}
	replySender               = &reply{code: 501, enhanced: [3]int{5, 1, 7}, text: "Malformed sender address"}
	replyRecipient            = &reply{code: 501, enhanced: [3]int{5, 1, 3}, text: "Malformed recipient address"}
	replySenderUTF8           = &reply{code: 550, enhanced: [3]int{5, 6, 7}, text: "Sender address needs SMTPUTF8"}
	replyRecipientUTF8        = &reply{code: 553, enhanced: [3]int{5, 6, 7}, text: "Recipient address needs SMTPUTF8"}
	replyORcpt                = &reply{code: 501, enhanced: [3]int{5, 5, 4}, text: "Malformed ORCPT"}
	replyEnvID                = &reply{code: 501, enhanced: [3]int{5, 5, 4}, text: "ENVID is too long"}
	replyCommandLine          = &reply{code: 500, enhanced: [3]int{5, 5, 2}, text: "Command line too long, closing connection", close: true}
	replyControl              = &reply{code: 500, enhanced: [3]int{5, 5, 2}, text: "Control characters are not allowed in commands"}
	replyUnknown              = &reply{code: 500, enhanced: [3]int{5, 5, 1}, text: "Command not recognized"}
	replyChunk                = &reply{code: 501, enhanced: [3]int{5, 5, 4}, text: "Malformed BDAT, closing connection", close: true}
	replyTooLarge             = &reply{code: 552, enhanced: [3]int{5, 3, 4}, text: "Message is larger than the maximum"}
	replyLineEnding           = &reply{code: 552, enhanced: [3]int{5, 6, 0}, text: "Lines must end with CRLF; bare CR or LF are not allowed"}
	replyLineLength           = &reply{code: 500, enhanced: [3]int{5, 6, 0}, text: "Line too long in the message"}
	replyHops                 = &reply{code: 554, enhanced: [3]int{5, 4, 6}, text: "Too many hops, mail is looping"}

	replyNoRecipients      = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Say RCPT first"}
	replyChunking          = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "The content comes by BDAT already"}
	replyBinary            = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "BODY=BINARYMIME needs BDAT"}
	replyTooManyRecipients = &reply{code: 452, enhanced: [3]int{4, 5, 3}, text: "Too many recipients, send the others in another transaction"}
	replyExcess            = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Too much content that was not asked for, closing connection", close: true}
	replyGoAhead           = &reply{code: 354, text: "Go ahead, end with CRLF.CRLF"}
	replyChunkEarly        = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Say EHLO first, closing connection", close: true}
	replyProxyLate         = &reply{code: 500, enhanced: [3]int{5, 5, 1}, text: "PROXY came too late, closing connection", close: true}
	replyNotAuthorized     = &reply{code: 550, enhanced: [3]int{5, 7, 1}, text: "XCLIENT is not for you"}
	replyXClientLate       = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "XCLIENT must come before AUTH and MAIL"}
	replyRequireTLS        = &reply{code: 530, enhanced: [3]int{5, 7, 10}, text: "REQUIRETLS needs TLS on this connection"}
	replyContinue          = &reply{code: 250, enhanced: [3]int{2, 0, 0}, text: "Continue"}
)
