package smtpserver

import (
	"crypto/tls"
	"encoding/json"
	"maps"
	"net/netip"
	"strings"

	"github.com/deferredqueue/deferredqueue/queue"
)

// A metaKey is what the metadata of a session are made of, but for those that
// hooks set.
type metaKey struct {
	opts                *Options
	remote, local       netip.AddrPort
	hello, authn, authz string
	tls                 *tls.ConnectionState
}

// meta returns the metadata of the messages of this session: what is known of
// it, and over that what hooks set. It must not be changed: as long as nothing
// else does, it is the same map for all messages.
func (s *reception) meta() map[string]string {
	key := metaKey{s.opts, s.pub.Remote, s.pub.Local, s.pub.Hello, s.pub.AuthnID, s.pub.AuthzID, s.pub.TLS}
	if s.known.meta == nil || s.known.key != key || !maps.Equal(s.known.set, s.pub.Meta) {
		s.known.key, s.known.set, s.known.meta = key, maps.Clone(s.pub.Meta), s.newMeta()
		s.known.from, s.known.network = s.receivedFrom(), networkClass(s.pub.Remote.Addr())
	}
	if s.more == nil {
		return s.known.meta
	}
	m := maps.Clone(s.known.meta)
	maps.Copy(m, s.more())
	return m
}

func (s *reception) newMeta() map[string]string {
	protocol := "ESMTP"
	if s.opts.LMTP {
		protocol = "LMTP"
	}
	m := map[string]string{
		"reception_protocol": protocol,
		"received_via":       endpoint(s.pub.Local, s.via[0]),
		"received_from":      endpoint(s.pub.Remote, s.via[1]),
		"hostname":           s.opts.Hostname,
		"ehlo_domain":        s.pub.Hello,
		"session_id":         s.pub.ID,
	}
	set := func(name, value string) {
		if value != "" {
			m[name] = value
		}
	}
	set("authn_id", s.pub.AuthnID)
	set("authz_id", s.pub.AuthzID)
	if t := s.pub.TLS; t != nil {
		set("tls_cipher", tls.CipherSuiteName(t.CipherSuite))
		set("tls_protocol_version", tls.VersionName(t.Version))
		set("tls_peer_subject_name", subjectNames(t))
	}
	maps.Copy(m, s.pub.Meta)
	return m
}

// claim takes another address of the client for its own, and ours that it
// connected to. Invalid ones say that nothing is known of the client, and that
// ours are unchanged. It returns the metadata that keeps the first addresses.
func (s *reception) claim(remote, local netip.AddrPort) map[string]string {
	meta := map[string]string{
		"orig_received_from": endpoint(s.pub.Remote, s.via[1]),
		"orig_received_via":  endpoint(s.pub.Local, s.via[0]),
	}
	for name := range meta {
		if first, ok := s.pub.Meta[name]; ok {
			meta[name] = first
		}
	}
	s.pub.Remote = remote
	if !remote.IsValid() {
		s.via[1] = unknownClient // and not who speaks for it
	}
	if local.IsValid() {
		s.pub.Local = local
	}
	return meta
}

// unknownClient stands for the address of a client of which PROXY or XCLIENT says
// that it is not known.
const unknownClient = "unknown"

// endpoint is one end of the connection, ip:port where it has such.
func endpoint(ap netip.AddrPort, name string) string {
	switch {
	case ap.IsValid():
		return ap.String()
	case name == "" || name == "@": // a Unix socket without a path
		return "local"
	}
	return name
}

// subjectNames is the subject of the client's certificate as a JSON array, as
// records have it. Empty if there is no certificate.
func subjectNames(t *tls.ConnectionState) string {
	if len(t.PeerCertificates) == 0 {
		return ""
	}
	text, err := json.Marshal([]string{t.PeerCertificates[0].Subject.String()})
	if err != nil {
		return ""
	}
	return string(text)
}

// class is the key of fairness of messages with this metadata, which meta
// returned. Never empty.
func (s *reception) class(meta map[string]string) string {
	switch {
	case meta["tenant"] != "":
		return meta["tenant"]
	case meta["authn_id"] != "":
		return meta["authn_id"]
	}
	return s.known.network
}

// recordRejection tells the Scheduler of a command that was refused.
func (s *reception) recordRejection(r *reply, command string) {
	meta := s.meta()
	rec := queue.Record{
		Type:               queue.Rejection,
		Time:               received(),
		Response:           queue.Response{Code: r.code, Enhanced: r.enhanced, Content: r.text, Command: command},
		PeerAddress:        queue.Peer{Name: s.pub.Hello, Addr: s.peer()},
		ReceptionProtocol:  meta["reception_protocol"],
		SessionID:          s.pub.ID,
		TLSCipher:          meta["tls_cipher"],
		TLSProtocolVersion: meta["tls_protocol_version"],
		Meta:               meta,
	}
	if tx := s.current(); tx != nil {
		rec.Sender = tx.env.Sender
		rec.Recipients = tx.refusedRecipients(command)
	}
	if t := s.pub.TLS; t != nil && len(t.PeerCertificates) > 0 {
		rec.TLSPeerSubjectName = []string{t.PeerCertificates[0].Subject.String()}
	}
	s.sched.RecordRejection(rec)
}

// refusedRecipients are those that the refusal of a command is about: its own
// if it is RCPT, or else all that were accepted.
func (tx *transaction) refusedRecipients(command string) []string {
	if path := pathOf([]byte(command), "RCPT", "TO:"); path != nil {
		return []string{strings.Trim(string(path[:pathLength(path)]), "<>")}
	}
	if len(tx.names) != len(tx.env.Recipients) { // LMTP asks for each of them
		tx.names = make([]string, len(tx.env.Recipients))
		for i, r := range tx.env.Recipients {
			tx.names[i] = r.Address
		}
	}
	return tx.names
}

// peer is the address of the client without its port.
func (s *reception) peer() string {
	if ip := s.pub.Remote.Addr(); ip.IsValid() {
		return ip.String()
	}
	return s.via[1]
}
