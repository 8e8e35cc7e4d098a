//go:build !linux

package childproc

import (
	"context"
	"syscall"
)

func setParentDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

// FollowGoRun does nothing on this system.
func FollowGoRun(context.Context, func()) {}
