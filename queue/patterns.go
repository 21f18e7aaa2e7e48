package queue

import (
	"errors"
	"fmt"
	"strings"
)

// patterns maps queue names to handlers. It is filled before use and may then
// be read concurrently.
type patterns struct {
	exact map[string]Handler // by normalName
	// wild has the patterns with a *, by which parts are fixed and what they
	// are: of one set of fixed parts at most one pattern matches a name.
	wild [allFixed + 1]map[queueName]Handler
}

// A fixedParts says which parts of a pattern are fixed, as bits. Of two sets
// of the same size the greater number wins.
type fixedParts uint8

const (
	fixedCampaign fixedParts = 1 << iota
	fixedTenant
	fixedDomain
	fixedRouting
	allFixed = 1<<iota - 1
)

// precedence is every set of fixed parts, the ones that win first.
var precedence = [...]fixedParts{
	fixedRouting | fixedDomain | fixedTenant | fixedCampaign,
	fixedRouting | fixedDomain | fixedTenant,
	fixedRouting | fixedDomain | fixedCampaign,
	fixedRouting | fixedTenant | fixedCampaign,
	fixedDomain | fixedTenant | fixedCampaign,
	fixedRouting | fixedDomain,
	fixedRouting | fixedTenant,
	fixedRouting | fixedCampaign,
	fixedDomain | fixedTenant,
	fixedDomain | fixedCampaign,
	fixedTenant | fixedCampaign,
	fixedRouting,
	fixedDomain,
	fixedTenant,
	fixedCampaign,
	0,
}

// add adds a pattern.
func (p *patterns) add(pattern string, h Handler) error {
	switch {
	case pattern == "":
		return errors.New(`queue: pattern is empty; "*" matches every queue`)
	case h == nil:
		return fmt.Errorf("queue: pattern %q: handler is nil", pattern)
	case normalName(pattern) == Deferred:
		return fmt.Errorf("queue: pattern %q: the handler of the deferred queue is the one given to NewScheduler", pattern)
	}
	if strings.Contains(pattern, "*") {
		return p.addWild(pattern, h)
	}
	name := normalName(pattern)
	if p.exact[name] != nil {
		return fmt.Errorf("queue: pattern %q: there is a handler for it already", pattern)
	}
	if p.exact == nil {
		p.exact = make(map[string]Handler)
	}
	p.exact[name] = h
	return nil
}

func (p *patterns) addWild(pattern string, h Handler) error {
	n, err := parsePattern(pattern)
	if err != nil {
		return fmt.Errorf("queue: pattern %q: %w", pattern, err)
	}
	var fixed fixedParts
	for i, part := range n.parts() {
		if *part != "" {
			fixed |= 1 << i
		}
	}
	if p.wild[fixed][n] != nil {
		return fmt.Errorf("queue: pattern %q: there is a handler for the same queues already", pattern)
	}
	if p.wild[fixed] == nil {
		p.wild[fixed] = make(map[queueName]Handler)
	}
	p.wild[fixed][n] = h
	return nil
}

// parsePattern takes a pattern with a * apart. Parts that match anything are
// empty.
func parsePattern(pattern string) (n queueName, err error) {
	texts, ok := splitName(pattern)
	// "campaign:*" has no @: what stands behind the colon is the rest.
	rest, routing, hasRouting := strings.Cut(pattern, "!")
	if campaign, short := strings.CutSuffix(rest, ":*"); short && !strings.ContainsAny(rest, "@") {
		texts = [4]string{campaign, "*", "*", routing}
		ok = campaign != "" && !strings.ContainsAny(campaign, ":") && (routing != "") == hasRouting && !strings.ContainsAny(routing, ":@!")
	}
	if !ok {
		return n, errors.New("want campaign:tenant@domain!routing_domain, with parts left out or *")
	}
	for i, part := range n.parts() {
		text := texts[i]
		if text == "*" {
			continue
		}
		if strings.Contains(text, "*") {
			return n, fmt.Errorf("%q: * stands for a whole part, not for some of it; write %%2A for the character", text)
		}
		if *part, ok = unescapePart(text); !ok {
			return n, fmt.Errorf("%q: %% must be followed by 3A, 40, 21, 25 or 2A (: @ ! %% *)", text)
		}
	}
	return n.lower(), nil
}

// match returns the handler of a queue, nil if there is none. A name that is
// not made of parts matches its own pattern and "*" alone. Nothing matches
// Deferred.
func (p *patterns) match(queue string) Handler {
	if h := p.exact[queue]; h != nil {
		return h
	}
	name, ok := parseQueueName(queue)
	if !ok {
		return p.wild[0][queueName{}]
	}
	name = name.lower()
	normal := name.String()
	if normal == Deferred {
		return nil
	}
	if h := p.exact[normal]; h != nil {
		return h
	}
	for _, fixed := range precedence {
		if len(p.wild[fixed]) == 0 {
			continue
		}
		if h := p.wild[fixed][name.only(fixed)]; h != nil {
			return h
		}
	}
	return nil
}

// only returns n with the fixed parts alone.
func (n queueName) only(fixed fixedParts) queueName {
	for i, part := range n.parts() {
		if fixed&(1<<i) == 0 {
			*part = ""
		}
	}
	return n
}

// empty reports whether there is no pattern at all.
func (p *patterns) empty() bool {
	for _, byParts := range p.wild {
		if len(byParts) > 0 {
			return false
		}
	}
	return len(p.exact) == 0
}

// normalName returns a name with its domains in lower case, as it is if it is
// not made of parts.
func normalName(name string) string {
	n, ok := parseQueueName(name)
	if !ok {
		return name
	}
	return n.lower().String()
}
