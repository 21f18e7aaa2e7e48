module github.com/deferredqueue/deferredqueue

go 1.26

require (
	github.com/emersion/go-message v0.18.2
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6
	github.com/emersion/go-smtp v0.25.1
	go.etcd.io/bbolt v1.5.0
	golang.org/x/sys v0.45.0
	golang.org/x/time v0.15.0
)

require (
	github.com/klauspost/compress v1.20.4
	github.com/pires/go-proxyproto v0.15.0
)
