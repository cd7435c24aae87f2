package harness

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a pod's network namespace, in which the test itself can serve.
type Namespace struct {
	path      string
	listeners []net.Listener
	open      atomic.Int64
}

// NetworkNamespace is that of the daemon's only pod with one; its servers end with the test.
func (d *Daemon) NetworkNamespace(t *testing.T) *Namespace {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(d.place.Memory, "netns", "*"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("not one network namespace: %v, %v", paths, err)
	}
	namespace := &Namespace{path: paths[0]}
	t.Cleanup(namespace.Close)
	return namespace
}

// Echo serves connections at an address of the namespace, as many at a time as come, sending back what each sends until
// its end. It returns the port.
func (n *Namespace) Echo(t *testing.T, address string) int {
	t.Helper()
	listener, err := n.listen(address)
	if err != nil {
		t.Fatalf("listening on %s in %s: %v", address, n.path, err)
	}
	n.listeners = append(n.listeners, listener)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			n.open.Add(1)
			go func() {
				defer n.open.Add(-1)
				defer func() { _ = connection.Close() }()
				_, _ = io.Copy(connection, connection)
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

// Open counts the connections that are open.
func (n *Namespace) Open() int { return int(n.open.Load()) }

// Close ends the servers; what they listened with would keep the namespace alive.
func (n *Namespace) Close() {
	for _, listener := range n.listeners {
		_ = listener.Close()
	}
	n.listeners = nil
}

// listen listens in the namespace: a socket belongs to the one that its thread was in when it was made.
func (n *Namespace) listen(address string) (net.Listener, error) {
	var listener net.Listener
	var err error
	var wait sync.WaitGroup
	wait.Go(func() {
		// Never unlocked: the thread, which is left in the namespace, ends with this goroutine.
		runtime.LockOSThread()
		var descriptor int
		if descriptor, err = unix.Open(n.path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		err = errors.Join(unix.Setns(descriptor, unix.CLONE_NEWNET), unix.Close(descriptor))
		if err == nil {
			listener, err = net.Listen("tcp", address)
		}
	})
	wait.Wait()
	return listener, err
}
