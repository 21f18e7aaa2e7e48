//go:build !linux

package main

import (
	"errors"
	"os"
	"syscall"
	"time"
)

func dieWithParent() *syscall.SysProcAttr { return nil }

func treeCPU(int) (time.Duration, error) {
	return 0, errors.New("bench: measuring other servers needs /proc of Linux")
}

func endWithParent() *syscall.SysProcAttr { return nil }

func endGroup(int) {}

func syncData(f *os.File) error { return f.Sync() }

func dropCaches() error { return errors.New("bench: emptying the page cache needs /proc of Linux") }
