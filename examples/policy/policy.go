package main

import (
	"context"
	"errors"
	"fmt"
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
		m.Meta["tenant"] = ownTenant
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

// identify moves what the application says of a message into its metadata.
func (p *policy) identify(m *deferred.Message) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	for field, key := range map[string]string{fieldTenant: "tenant", fieldCampaign: "campaign"} {
		if value := h.Get(field); value != "" {
			m.Meta[key] = strings.ToLower(value)
		}
		h.Del(field)
	}
	if m.Meta["tenant"] == "" {
		return deferred.Reject(550, "5.7.1 the field %s is missing", fieldTenant)
	}
	return nil
}

// allow says what a tenant may not do.
func allow(t *tenant, m *deferred.Message) error {
	if _, domain, _ := strings.Cut(m.Envelope.Sender, "@"); domain != "" && !t.owns(domain) {
		return deferred.Reject(550, "5.7.1 %s is no domain of tenant %s", domain, t.name)
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
