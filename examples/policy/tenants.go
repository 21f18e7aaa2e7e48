package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// ownTenant is for whom the service itself sends.
const ownTenant = "service"

// errNoTenant is final: nobody waits for a tenant that does not exist. Every other
// error of a directory is temporary.
var errNoTenant = errors.New("no such tenant")

// A directory knows the tenants: a database, usually.
type directory interface {
	find(ctx context.Context, name string) (*tenant, error)
}

// A tenant is a customer.
type tenant struct {
	name        string
	domains     []string // from which it may send: no two tenants have the same
	key         key      // of its own, for one of these domains: with another's it would be that one
	review      bool     // somebody looks at its mail first
	closed      bool
	pausedUntil time.Time
	ownRoute    string // its mail goes by this host
}

// owns reports whether an address is of one of the tenant's domains.
func (t *tenant) owns(address string) bool {
	domain := address[strings.LastIndexByte(address, '@')+1:] // a local part may have one, too
	return slices.ContainsFunc(t.domains, func(d string) bool { return strings.EqualFold(d, domain) })
}

// static is a directory for tests and for the demonstration.
type static map[string]*tenant

func (s static) find(ctx context.Context, name string) (*tenant, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if t := s[name]; t != nil {
		return t, nil
	}
	return nil, errNoTenant
}
