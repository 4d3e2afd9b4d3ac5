package bridge

import "errors"

// ErrNoBridge: the node has no such bridge.
var ErrNoBridge = errors.New("there is no such bridge on this node")
