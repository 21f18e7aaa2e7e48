package smtpserver

import (
	"crypto/tls"
	"maps"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// completed resolves opts as if all of them were supported.
func completed(t *testing.T, opts Options) *Options {
	t.Helper()
	if err := opts.complete(); err != nil {
		t.Fatal(err)
	}
	return &opts
}

// TestOverrideMatch says which Overrides hold for which connection.
func TestOverrideMatch(t *testing.T) {
	net := netip.MustParsePrefix
	o := completed(t, Options{Overrides: []Override{
		{Remote: net("192.0.2.77/24"), Meta: map[string]string{"remote": "v4", "last": "0"}}, // host bits are masked
		{Remote: net("2001:db8::/32"), Meta: map[string]string{"remote": "v6", "last": "1"}},
		{Local: net("198.51.100.1/32"), Meta: map[string]string{"local": "here", "last": "2"}},
		{Remote: net("::ffff:203.0.113.0/120"), Local: net("198.51.100.0/24"), Meta: map[string]string{"both": "yes", "last": "3"}},
		{Remote: net("fe80::/10"), Meta: map[string]string{"last": "4"}},
		{Remote: net("0.0.0.0/0"), Banner: "IPv4"},
	}})
	for _, tt := range []struct {
		remote, local string // empty: not IP
		meta          string
		banner        string
	}{
		{"192.0.2.1", "203.0.113.9", "last=0 remote=v4", "IPv4"},
		{"::ffff:192.0.2.1", "203.0.113.9", "last=0 remote=v4", "IPv4"},
		{"192.0.2.1", "::ffff:198.51.100.1", "last=2 local=here remote=v4", "IPv4"},
		{"192.0.3.1", "203.0.113.9", "", "IPv4"},
		{"2001:db8::5", "2001:db8::6", "last=1 remote=v6", ""},
		{"203.0.113.5", "198.51.100.2", "both=yes last=3", "IPv4"},
		{"203.0.113.5", "198.51.100.1", "both=yes last=3 local=here", "IPv4"},
		{"203.0.113.5", "198.51.99.1", "", "IPv4"},
		{"fe80::1%eth0", "fe80::2%eth0", "last=4", ""},
		{"2001:db9::5", "2001:db8::6", "", ""},
		{"", "", "", ""},
	} {
		t.Run(tt.remote+" to "+tt.local, func(t *testing.T) {
			remote, _ := netip.ParseAddr(tt.remote)
			local, _ := netip.ParseAddr(tt.local)
			held, meta := o.with(remote, local)
			if got := joined(meta); got != tt.meta {
				t.Errorf("metadata %q, want %q", got, tt.meta)
			}
			if tt.banner == "" {
				tt.banner = defaultBanner
			}
			if held.Banner != tt.banner {
				t.Errorf("banner %q, want %q", held.Banner, tt.banner)
			}
			if unchanged := tt.meta == "" && tt.banner == defaultBanner; unchanged != (held == o) {
				t.Errorf("a copy: %v", held != o)
			}
		})
	}
	if o.Banner != defaultBanner {
		t.Errorf("the base has the banner %q now", o.Banner)
	}
}

func joined(m map[string]string) string {
	var parts []string
	for _, name := range []string{"both", "last", "local", "remote"} {
		if v, ok := m[name]; ok {
			parts = append(parts, name+"="+v)
		}
	}
	return strings.Join(parts, " ")
}

// TestOverrideAll: one without networks is for everybody, Unix sockets included,
// and the metadata is the caller's own.
func TestOverrideAll(t *testing.T) {
	o := completed(t, Options{Overrides: []Override{{Meta: map[string]string{"a": "1"}}, {}}})
	held, meta := o.with(netip.Addr{}, netip.Addr{})
	if held == o || !maps.Equal(meta, map[string]string{"a": "1"}) {
		t.Fatalf("metadata %v", meta)
	}
	meta["a"] = "changed"
	if _, again := o.with(netip.Addr{}, netip.Addr{}); again["a"] != "1" {
		t.Error("the metadata is shared")
	}
	if held, meta := completed(t, Options{}).with(netip.Addr{}, netip.Addr{}); meta != nil || held == nil {
		t.Errorf("without Overrides: %v", meta)
	}
}

// TestOverrideFields sets every field once, and looks that it is set.
func TestOverrideFields(t *testing.T) {
	cert, _ := certificate(t)
	base := Options{
		TLS:           TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}}},
		Auth:          Auth{Password: acceptAll},
		DeferredQueue: true, Hostname: "base.example", Banner: "base",
		Limits: Limits{Memory: 7, Hops: 5, QueuedMessages: 9},
	}
	yes, no := true, false
	for name, tt := range map[string]struct {
		set  Override
		want func(o *Options)
	}{
		"Hostname":             {Override{Hostname: "other.example"}, func(o *Options) { o.Hostname = "other.example" }},
		"Banner":               {Override{Banner: "other"}, func(o *Options) { o.Banner = "other" }},
		"RelayHosts":           {Override{RelayHosts: prefixes("192.0.2.9/24")}, func(o *Options) { o.RelayHosts = prefixes("192.0.2.0/24") }},
		"RelayHosts, nobody":   {Override{RelayHosts: []netip.Prefix{}}, func(o *Options) { o.RelayHosts = []netip.Prefix{} }},
		"DeferredQueue":        {Override{DeferredQueue: &no}, func(o *Options) { o.DeferredQueue = false }},
		"DeferredSpool":        {Override{DeferredSpool: &yes}, func(o *Options) { o.DeferredSpool = true }},
		"InvalidLineEndings":   {Override{InvalidLineEndings: Fix}, func(o *Options) { o.InvalidLineEndings = Fix }},
		"RequireTLS":           {Override{RequireTLS: &yes}, func(o *Options) { o.TLS.Require = true }},
		"RequireAuth":          {Override{RequireAuth: &yes}, func(o *Options) { o.Auth.Require = true }},
		"Trace":                {Override{Trace: &Trace{OmitReceived: true}}, func(o *Options) { o.Trace = Trace{OmitReceived: true, HeaderName: "X-KumoRef"} }},
		"Trace, name":          {Override{Trace: &Trace{HeaderName: "X-Ref"}}, func(o *Options) { o.Trace = Trace{HeaderName: "X-Ref"} }},
		"ConnectionsPerAddr":   {Override{Limits: Limits{ConnectionsPerAddr: 3}}, func(o *Options) { o.Limits.ConnectionsPerAddr = 3 }},
		"Messages":             {Override{Limits: Limits{Messages: 3}}, func(o *Options) { o.Limits.Messages = 3 }},
		"Messages, none":       {Override{Limits: Limits{Messages: -3}}, func(o *Options) { o.Limits.Messages = 0 }},
		"Recipients":           {Override{Limits: Limits{Recipients: 3}}, func(o *Options) { o.Limits.Recipients = 3 }},
		"LineLength, none":     {Override{Limits: Limits{LineLength: -1}}, func(o *Options) { o.Limits.LineLength = 0 }},
		"Errors":               {Override{Limits: Limits{Errors: 1}}, func(o *Options) { o.Limits.Errors = 1 }},
		"Hops":                 {Override{Limits: Limits{Hops: 1}}, func(o *Options) { o.Limits.Hops = 1 }},
		"MessageSize":          {Override{Limits: Limits{MessageSize: 1}}, func(o *Options) { o.Limits.MessageSize = 1 }},
		"ClientTimeout":        {Override{Limits: Limits{ClientTimeout: time.Second}}, func(o *Options) { o.Limits.ClientTimeout = time.Second }},
		"ClientTimeout, none":  {Override{Limits: Limits{ClientTimeout: -1}}, func(o *Options) { o.Limits.ClientTimeout = 0 }},
		"DataTimeout":          {Override{Limits: Limits{DataTimeout: time.Second}}, func(o *Options) { o.Limits.DataTimeout = time.Second }},
		"ProcessingTimeout":    {Override{Limits: Limits{ProcessingTimeout: time.Second}}, func(o *Options) { o.Limits.ProcessingTimeout = time.Second }},
		"nothing":              {Override{}, func(*Options) {}},
		"DeferredQueue, false": {Override{DeferredQueue: &no, DeferredSpool: &no}, func(o *Options) { o.DeferredQueue = false }},
	} {
		t.Run(name, func(t *testing.T) {
			opts := base
			opts.Overrides = []Override{tt.set}
			o := completed(t, opts)
			want := *o
			tt.want(&want)
			got, _ := o.with(netip.Addr{}, netip.Addr{})
			if g, w := withoutFuncs(*got), withoutFuncs(want); !reflect.DeepEqual(g, w) {
				t.Errorf("%+v\nwant %+v", g, w)
			}
		})
	}
	called := false
	base.Overrides = []Override{{Batch: func(spool.Envelope) [][]spool.Recipient { called = true; return nil }}}
	held, _ := completed(t, base).with(netip.Addr{}, netip.Addr{})
	if held.Batch(spool.Envelope{}); !called {
		t.Error("Batch is unchanged")
	}
}

// withoutFuncs leaves out what DeepEqual takes for different.
func withoutFuncs(o Options) Options {
	o.Batch, o.Auth.Password = nil, nil
	return o
}

// TestOverrideDeferredSpool: it needs DeferredQueue, and has no effect without.
func TestOverrideDeferredSpool(t *testing.T) {
	yes, no := true, false
	net := netip.MustParsePrefix
	o := completed(t, Options{DeferredQueue: true, DeferredSpool: true, Overrides: []Override{
		{Remote: net("192.0.2.0/24"), DeferredQueue: &no},
		{Remote: net("192.0.2.128/25"), DeferredSpool: &yes},
		{Remote: net("192.0.2.192/26"), DeferredQueue: &yes},
	}})
	for addr, want := range map[string][2]bool{
		"198.51.100.1": {true, true}, "192.0.2.1": {false, false}, "192.0.2.129": {false, false}, "192.0.2.193": {true, true},
	} {
		held, _ := o.with(netip.MustParseAddr(addr), netip.Addr{})
		if got := [2]bool{held.DeferredQueue, held.DeferredSpool}; got != want {
			t.Errorf("%s: DeferredQueue, DeferredSpool %v, want %v", addr, got, want)
		}
	}
	if !o.DeferredSpool {
		t.Error("the base changed")
	}
}

func TestOverrideErrors(t *testing.T) {
	yes, no := true, false
	fine := Override{}
	for name, tt := range map[string]struct {
		bad  Override
		want string // behind "smtpserver: Options.Overrides[1]."; empty: no error
	}{
		"fine":                 {Override{Remote: netip.MustParsePrefix("192.0.2.0/24"), Limits: Limits{DataTimeout: -1}}, ""},
		"invalid Remote":       {Override{Remote: netip.PrefixFrom(netip.MustParseAddr("192.0.2.1"), 33)}, "Remote is not a valid prefix"},
		"invalid Local":        {Override{Local: netip.PrefixFrom(netip.IPv6Loopback(), 129)}, "Local is not a valid prefix"},
		"half IPv4 in IPv6":    {Override{Local: netip.MustParsePrefix("::ffff:0.0.0.0/95")}, "Local is not a valid prefix"},
		"invalid RelayHosts":   {Override{RelayHosts: []netip.Prefix{{}}}, "RelayHosts[0] is not a valid prefix"},
		"host name":            {Override{Hostname: "a b"}, `Hostname "a b"`},
		"banner":               {Override{Banner: "a\nb"}, "Banner: want"},
		"header name":          {Override{Trace: &Trace{HeaderName: "a:b"}}, `Trace.HeaderName "a:b"`},
		"line endings":         {Override{InvalidLineEndings: Fix + 1}, "InvalidLineEndings is 4"},
		"RequireTLS":           {Override{RequireTLS: &yes}, "RequireTLS needs Options.TLS.Config"},
		"RequireTLS, false":    {Override{RequireTLS: &no}, ""},
		"RequireAuth":          {Override{RequireAuth: &yes}, "RequireAuth needs Options.Auth.Password"},
		"DeferredSpool":        {Override{DeferredSpool: &yes}, "DeferredSpool without DeferredQueue"},
		"DeferredSpool, off":   {Override{DeferredSpool: &yes, DeferredQueue: &no}, "DeferredSpool without DeferredQueue"},
		"DeferredSpool, on":    {Override{DeferredSpool: &yes, DeferredQueue: &yes}, ""},
		"Limits, Connections":  {Override{Limits: Limits{Connections: 1}}, "Limits.Connections is not a limit of one connection"},
		"Limits, Memory":       {Override{Limits: Limits{Memory: -1}}, "Limits.Memory is not"},
		"Limits, Queued":       {Override{Limits: Limits{QueuedMessages: 1}}, "Limits.QueuedMessages is not"},
		"Limits, QueuedBytes":  {Override{Limits: Limits{QueuedBytes: 1}}, "Limits.QueuedBytes is not"},
		"Limits, QueuedAge":    {Override{Limits: Limits{QueuedAge: 1}}, "Limits.QueuedAge is not"},
		"Limits, ShutdownTime": {Override{Limits: Limits{ShutdownTimeout: 1}}, "Limits.ShutdownTimeout is not"},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Overrides: []Override{fine, tt.bad}}
			given := o.Overrides[1]
			err := o.complete()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "smtpserver: Options.Overrides[1]."+tt.want)):
				t.Errorf("error %v, want one about %s", err, tt.want)
			}
			if !reflect.DeepEqual(given, tt.bad) {
				t.Error("the caller's Override was changed")
			}
		})
	}
	spooled := Options{Overrides: []Override{{DeferredSpool: &yes}, {DeferredQueue: &yes}}}
	if err := spooled.complete(); err != nil {
		t.Errorf("DeferredSpool in one, DeferredQueue in another: %v", err)
	}
}
