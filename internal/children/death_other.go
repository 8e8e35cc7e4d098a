//go:build !linux

package children

import (
	"context"
	"syscall"
)

func setParentDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

// FollowGoRun does nothing on this system.
func FollowGoRun(context.Context, func()) {}
