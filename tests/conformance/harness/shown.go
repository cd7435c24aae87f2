package harness

import (
	"strings"
	"sync"
)

// Shown collects what a program writes, to be looked at while it runs.
type Shown struct {
	guard sync.Mutex
	text  strings.Builder
}

// Write appends.
func (s *Shown) Write(bytes []byte) (int, error) {
	s.guard.Lock()
	defer s.guard.Unlock()
	return s.text.Write(bytes)
}

// String is all that was written so far.
func (s *Shown) String() string {
	s.guard.Lock()
	defer s.guard.Unlock()
	return s.text.String()
}
