package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
)

// The fields by which an application says for whom it sends. They are for this
// service, and never leave it.
const (
	fieldTenant   = "X-Tenant"
	fieldCampaign = "X-Campaign"
)

// A policy decides about each message after its 250.
type policy struct {
	tenants directory
	dkim    signer
}

// inject is the callback: the order of things is here, the things are below. What is
// no verdict, such as a directory that is down, is tried again.
func (p *policy) inject(ctx context.Context, m *deferred.Message) error {
	if m.Meta[queue.MetaNotice] != "" { // about a message of ours. An empty sender alone says nothing: anybody may have that
		m.Meta["tenant"] = ownTenant // and not that of the message: the author of the notice is this host
	} else if err := p.identify(m); err != nil {
		return err
	}
	t, err := p.tenants.find(ctx, m.Meta["tenant"])
	if errors.Is(err, errNoTenant) {
		return deferred.Reject(550, "5.7.1 there is no tenant %q", m.Meta["tenant"])
	}
	if err != nil {
		return fmt.Errorf("looking up tenant %q: %w", m.Meta["tenant"], err)
	}
	if err := allow(t, m); err != nil {
		return err
	}
	t.routeMessage(m)
	return p.dkim.sign(ctx, t, m)
}

// identify moves what the application says of a message into its metadata. What is
// there already was set by AUTH or a hook, which know who it is: that wins.
func (p *policy) identify(m *deferred.Message) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	for field, key := range map[string]string{fieldTenant: "tenant", fieldCampaign: "campaign"} {
		if value := h.Get(field); value != "" && m.Meta[key] == "" {
			m.Meta[key] = strings.ToLower(value)
		}
		h.Del(field)
	}
	switch m.Meta["tenant"] {
	case "":
		return deferred.Reject(550, "5.7.1 the field %s is missing", fieldTenant)
	case ownTenant: // else everybody could write notices in our name
		return deferred.Reject(550, "5.7.1 there is no tenant %q", ownTenant)
	}
	return nil
}

// allow says what a tenant may not do.
func allow(t *tenant, m *deferred.Message) error {
	if sender := m.Envelope.Sender; sender != "" && !t.owns(sender) { // that of a bounce is empty
		return deferred.Reject(550, "5.7.1 %s is not of a domain of tenant %s", sender, t.name)
	}
	if err := allowFrom(t, m); err != nil {
		return err
	}
	switch {
	case t.closed:
		return deferred.Drop("the account is closed") // without a bounce: it would go to nobody
	case t.review:
		return deferred.Hold("tenant " + t.name + " is under review")
	case time.Now().Before(t.pausedUntil):
		return deferred.RetryAfter(time.Until(t.pausedUntil), fmt.Errorf("tenant %s has used up its quota", t.name))
	}
	return nil
}

// anyCharset reads addresses whose names are in any character set: the names do not
// matter here.
var anyCharset = mail.AddressParser{WordDecoder: &mime.WordDecoder{
	CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil },
}}

// allowFrom says whom the message may not be from, for its reader: the signature vouches
// for the domain in From, and the sender of the envelope, which may be empty, says
// nothing about that.
func allowFrom(t *tenant, m *deferred.Message) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	fields := h.Values("From")
	if len(fields) != 1 { // of two, one is checked and another one shown
		return deferred.Reject(550, "5.7.1 there are %d fields From, want one", len(fields))
	}
	authors, err := anyCharset.ParseList(fields[0])
	if err != nil || len(authors) == 0 {
		return deferred.Reject(550, "5.7.1 there is no address in From")
	}
	for _, a := range authors {
		if !t.owns(a.Address) {
			return deferred.Reject(550, "5.7.1 From: %s is not of a domain of tenant %s", a.Address, t.name)
		}
	}
	return nil
}

// routeMessage names what the queue is made of, beside the recipient's domain:
// campaign:tenant@domain!routing_domain.
func (t *tenant) routeMessage(m *deferred.Message) {
	if t.ownRoute != "" {
		m.Meta["routing_domain"] = t.ownRoute
	}
	if len(m.Envelope.Recipients) == 0 {
		return
	}
	if strings.HasSuffix(strings.ToLower(m.Envelope.Recipients[0].Address), "@bounces.example") {
		m.Meta["queue"] = "bounces" // a queue by its name, whatever else the metadata says
	}
}
