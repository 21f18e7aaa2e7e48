module github.com/deferredqueue/deferredqueue/examples/policy

go 1.26.0

require (
	github.com/deferredqueue/deferredqueue v0.0.0
	github.com/emersion/go-msgauth v0.7.0
)

require (
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // indirect
	github.com/emersion/go-smtp v0.25.1 // indirect
	github.com/pires/go-proxyproto v0.15.0 // indirect
	go.etcd.io/bbolt v1.5.0 // indirect
	golang.org/x/crypto v0.31.0 // indirect
	golang.org/x/sys v0.45.0 // indirect
	golang.org/x/time v0.15.0 // indirect
)

replace github.com/deferredqueue/deferredqueue => ../..
