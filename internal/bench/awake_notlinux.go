//go:build !linux

package main

// keepAwake does nothing here.
func keepAwake() (stop func(), err error) { return func() {}, nil }
