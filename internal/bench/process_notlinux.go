//go:build !linux

package main

import (
	"errors"
	"syscall"
	"time"
)

func dieWithParent() *syscall.SysProcAttr { return nil }

func treeCPU(int) (time.Duration, error) {
	return 0, errors.New("bench: measuring other servers needs /proc of Linux")
}

func endWithParent() *syscall.SysProcAttr { return nil }

func endGroup(int) {}
