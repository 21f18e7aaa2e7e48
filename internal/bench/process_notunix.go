//go:build !unix

package main

import (
	"errors"
	"time"
)

func ownCPU() (time.Duration, error) {
	return 0, errors.New("bench: measuring CPU needs getrusage, which this system has not")
}
