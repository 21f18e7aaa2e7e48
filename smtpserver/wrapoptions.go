package smtpserver

import "fmt"

// resolveWrapped is resolve for Wrap and WrapListener: what is the business of the
// host's server must not be set.
func resolveWrapped(opts *Options) (Options, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"Addr", o.Addr != ""},
		{"Listener", o.Listener != nil},
		{"RelayHosts", o.RelayHosts != nil},
		{"Banner", o.Banner != ""},
		{"LMTP", o.LMTP},
		{"TLS", o.TLS != TLS{}},
		{"Auth", o.Auth.Password != nil || o.Auth.AllowPlaintext || o.Auth.Require},
		{"Hooks", o.Hooks.Connect != nil || o.Hooks.Hello != nil || o.Hooks.Mail != nil || o.Hooks.Rcpt != nil},
		{"Proxy.XClient", o.Proxy.XClient != nil},
		{"Overrides", len(o.Overrides) > 0},
		{"Limits.Messages", o.Limits.Messages != 0},
		{"Limits.Recipients", o.Limits.Recipients != 0},
		{"Limits.Errors", o.Limits.Errors != 0},
	} {
		if field.set {
			return o, fmt.Errorf("smtpserver: Options.%s is for a Listener: your go-smtp server and its backend decide that; leave it unset", field.name)
		}
	}
	hostname := o.Hostname
	o, err := resolve(&o)
	if hostname == "" {
		o.Hostname = "" // the server's, once it is known
	}
	return o, err
}
