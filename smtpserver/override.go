package smtpserver

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// with returns the options that hold for a connection between these addresses,
// and the metadata that Overrides give its messages. o must be resolved, and is
// what is returned if no Override matches; the metadata, nil if there is none, is
// the caller's. Addresses that are not IP are invalid: prefixes do not match
// those.
func (o *Options) with(remote, local netip.Addr) (*Options, map[string]string) {
	remote, local = remote.Unmap().WithZone(""), local.Unmap().WithZone("")
	held, meta := o, map[string]string(nil)
	for i := range o.Overrides {
		v := &o.Overrides[i]
		if !matches(v.Remote, remote) || !matches(v.Local, local) {
			continue
		}
		if held == o {
			changed := *o
			held = &changed
		}
		v.apply(held)
		if meta == nil && len(v.Meta) > 0 {
			meta = make(map[string]string)
		}
		maps.Copy(meta, v.Meta)
	}
	if !held.DeferredQueue && held != o {
		held.DeferredSpool = false
	}
	return held, meta
}

// matches reports whether ip is in p. All are in the zero Prefix.
func matches(p netip.Prefix, ip netip.Addr) bool {
	return p == netip.Prefix{} || p.Contains(ip)
}

// apply changes o where v is not zero.
func (v *Override) apply(o *Options) {
	setNonZero(&o.Hostname, v.Hostname)
	setNonZero(&o.Banner, v.Banner)
	setNonZero(&o.InvalidLineEndings, v.InvalidLineEndings)
	setPointed(&o.DeferredQueue, v.DeferredQueue)
	setPointed(&o.DeferredSpool, v.DeferredSpool)
	setPointed(&o.TLS.Require, v.RequireTLS)
	setPointed(&o.Auth.Require, v.RequireAuth)
	setPointed(&o.Trace, v.Trace)
	if v.RelayHosts != nil {
		o.RelayHosts = v.RelayHosts
	}
	if v.Batch != nil {
		o.Batch = v.Batch
	}
	o.Limits = o.Limits.with(v.Limits)
}

func setNonZero[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

func setPointed[T any](to, v *T) {
	if v != nil {
		*to = *v
	}
}

// with returns l, which is resolved, with what v sets of one connection's limits.
func (l Limits) with(v Limits) Limits {
	l.ConnectionsPerAddr = orDefault(v.ConnectionsPerAddr, l.ConnectionsPerAddr)
	l.Messages = orDefault(v.Messages, l.Messages)
	l.Recipients = orDefault(v.Recipients, l.Recipients)
	l.LineLength = orDefault(v.LineLength, l.LineLength)
	l.Errors = orDefault(v.Errors, l.Errors)
	l.Hops = orDefault(v.Hops, l.Hops)
	l.MessageSize = orDefault(v.MessageSize, l.MessageSize)
	l.ClientTimeout = orDefault(v.ClientTimeout, l.ClientTimeout)
	l.DataTimeout = orDefault(v.DataTimeout, l.DataTimeout)
	l.ProcessingTimeout = orDefault(v.ProcessingTimeout, l.ProcessingTimeout)
	return l
}

// global names a limit in l that is not about one connection, if one is set.
func (l Limits) global() string {
	switch {
	case l.Connections != 0:
		return "Connections"
	case l.Memory != 0:
		return "Memory"
	case l.QueuedMessages != 0:
		return "QueuedMessages"
	case l.QueuedBytes != 0:
		return "QueuedBytes"
	case l.QueuedAge != 0:
		return "QueuedAge"
	case l.ShutdownTimeout != 0:
		return "ShutdownTimeout"
	}
	return ""
}

// resolveOverrides checks Overrides and replaces them by copies that are ready
// for [Options.with].
func resolveOverrides(o *Options) error {
	o.Overrides = slices.Clone(o.Overrides)
	for i := range o.Overrides {
		v, where := &o.Overrides[i], fmt.Sprintf("Options.Overrides[%d]", i)
		if err := v.checkAgainst(o, where); err != nil {
			return err
		}
		if err := v.resolve(where); err != nil {
			return err
		}
	}
	return nil
}

// checkAgainst refuses what cannot have an effect together with o.
func (v *Override) checkAgainst(o *Options, where string) error {
	switch {
	case isTrue(v.RequireTLS) && o.TLS.Config == nil:
		return fmt.Errorf("smtpserver: %s.RequireTLS needs Options.TLS.Config", where)
	case isTrue(v.RequireAuth) && o.Auth.Password == nil:
		return fmt.Errorf("smtpserver: %s.RequireAuth needs Options.Auth.Password", where)
	case isTrue(v.DeferredSpool) && !v.mayDefer(o):
		return fmt.Errorf("smtpserver: %s.DeferredSpool without DeferredQueue has no effect: set DeferredQueue too", where)
	}
	if name := v.Limits.global(); name != "" {
		return fmt.Errorf("smtpserver: %s.Limits.%s is not a limit of one connection: set it in Options.Limits", where, name)
	}
	return nil
}

// mayDefer reports whether DeferredQueue can hold where v does.
func (v *Override) mayDefer(o *Options) bool {
	if v.DeferredQueue != nil {
		return *v.DeferredQueue
	}
	return o.DeferredQueue || slices.ContainsFunc(o.Overrides, func(w Override) bool { return isTrue(w.DeferredQueue) })
}

func isTrue(b *bool) bool { return b != nil && *b }

// resolve checks v by itself, and puts its networks and Trace into the form
// that resolve gives them in Options.
func (v *Override) resolve(where string) error {
	if v.Remote != (netip.Prefix{}) {
		if err := resolvePrefix(where+".Remote", &v.Remote); err != nil {
			return err
		}
	}
	if v.Local != (netip.Prefix{}) {
		if err := resolvePrefix(where+".Local", &v.Local); err != nil {
			return err
		}
	}
	if err := resolvePrefixes(where+".RelayHosts", &v.RelayHosts); err != nil {
		return err
	}
	if v.Hostname != "" {
		if err := checkHostname(where, v.Hostname); err != nil {
			return err
		}
	}
	if err := checkBanner(where, v.Banner); err != nil {
		return err
	}
	if v.Trace != nil {
		trace := *v.Trace
		v.Trace = &trace
		if err := resolveTrace(where, v.Trace); err != nil {
			return err
		}
	}
	return checkLineEndings(where, v.InvalidLineEndings)
}
