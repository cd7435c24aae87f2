//go:build tools

package conformance

// critest is a test binary, which a tool line cannot name; this keeps what it needs in go.mod and go.sum.
import (
	_ "sigs.k8s.io/cri-tools/cmd/critest"
)
