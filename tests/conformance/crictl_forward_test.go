package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"conformance/harness"
)

// Ports of a pod by crictl port-forward.

func TestCrictlPortForwardReachesTheServersOfAPod(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			node := startInside(t)
			node.run(t, harness.Container{Name: "server", Command: []string{"sockets", "serve", "80"}})
			namespace := node.daemon.NetworkNamespace(t)
			// Servers of the test's own in the pod: of IPv6 alone, which the guest is not, and of many connections at once.
			six := namespace.Echo(t, "[::1]:0")
			many := namespace.Echo(t, "127.0.0.1:0")

			harness.Step(t, "a guest that serves is reached", func(t *testing.T) {
				forward := node.forward(t, transport, 80)
				harness.Until(t, 10*time.Second, "an answer", func() error {
					response, err := http.Get("http://" + forward.address)
					if err != nil {
						return err
					}
					defer func() { _ = response.Body.Close() }()
					body, err := io.ReadAll(response.Body)
					if err != nil {
						return err
					}
					return wants(string(body), "served by inside-"+node.place.Name)
				})
				// The guest serves one connection after the other, and sends back what it gets to its end.
				for range 5 {
					if err := echoed(forward.address, []byte("Moin")); err != nil {
						t.Error(err)
					}
				}
				forward.stop(t)
			})
			harness.Step(t, "20 MB come through a guest both ways unharmed, half closed", func(t *testing.T) {
				forward := node.forward(t, transport, 80)
				if err := echoed(forward.address, noise(t, much)); err != nil {
					t.Error(err)
				}
				forward.stop(t)
			})
			harness.Step(t, "IPv6 is reached where IPv4 does not answer", func(t *testing.T) {
				forward := node.forward(t, transport, six)
				if err := echoed(forward.address, noise(t, 100_000)); err != nil {
					t.Error(err)
				}
				forward.stop(t)
			})
			harness.Step(t, "many connections at once, of several ports", func(t *testing.T) {
				forwards := []forward{node.forward(t, transport, many), node.forward(t, transport, six)}
				results := make(chan error)
				const connections = 20
				for _, forward := range forwards {
					for range connections {
						go func() { results <- echoed(forward.address, noise(t, 500_000)) }()
					}
				}
				for range connections * len(forwards) {
					if err := <-results; err != nil {
						t.Error(err)
					}
				}
				for _, forward := range forwards {
					forward.stop(t)
				}
			})
			harness.Step(t, "a port where nobody listens is told", func(t *testing.T) {
				forward := node.forward(t, transport, 81)
				connection, err := net.Dial("tcp", forward.address)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = connection.Close() }()
				harness.Until(t, 10*time.Second, "the refusal", func() error {
					return wants(strings.ToLower(forward.client.stderr.String()+forward.client.stdout.String()), "81", "refused")
				})
				_ = connection.SetDeadline(time.Now().Add(patience))
				if read, err := connection.Read(make([]byte, 1)); read != 0 || err == nil {
					t.Errorf("%d bytes came, %v", read, err)
				}
				forward.client.kill()
			})
			harness.Step(t, "what the client leaves open is closed in the pod", func(t *testing.T) {
				forward := node.forward(t, transport, many)
				connection, err := net.Dial("tcp", forward.address)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = connection.Close() }()
				if _, err := connection.Write([]byte("open")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(connection, make([]byte, 4)); err != nil {
					t.Fatal(err)
				}
				forward.client.kill()
				harness.Until(t, 10*time.Second, "the pod's connections close", func() error {
					if open := namespace.Open(); open != 0 {
						return fmt.Errorf("%d are open", open)
					}
					return nil
				})
			})
			namespace.Close()
			node.finish(t)
		})
	}
}

// forward is a port-forward of crictl that runs.
type forward struct {
	client  *client
	address string
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+) ->`)

// forward starts one from a port that crictl chooses.
func (i inside) forward(t *testing.T, transport string, port int) forward {
	t.Helper()
	started := startClient(t, i.crictl.Command(t.Context(), "port-forward", "--transport", transport, i.podID, fmt.Sprintf(":%d", port)))
	var address string
	harness.Until(t, 10*time.Second, "the port is forwarded", func() error {
		match := forwarding.FindStringSubmatch(started.stdout.String())
		if match == nil {
			return fmt.Errorf("stdout %q, stderr %q", started.stdout.String(), started.stderr.String())
		}
		address = match[1]
		return nil
	})
	return forward{started, address}
}

// stop ends it as a person does, by ^C; it must have nothing to complain of.
func (f forward) stop(t *testing.T) {
	t.Helper()
	_ = f.client.command.Process.Signal(os.Interrupt)
	<-f.client.ended
	if text := f.client.stderr.String(); text != "" {
		t.Errorf("crictl port-forward says: %s", text)
	}
}

// echoed is an error unless what is sent comes back, the last of it after the sending side was closed.
func echoed(address string, sent []byte) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(patience))
	written := make(chan error, 1)
	go func() {
		_, err := io.Copy(connection, bytes.NewReader(sent))
		if half := connection.(*net.TCPConn).CloseWrite(); err == nil {
			err = half
		}
		written <- err
	}()
	got, err := io.ReadAll(connection)
	if err != nil {
		return fmt.Errorf("reading, after %d bytes: %w", len(got), err)
	}
	if err := <-written; err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return same(got, sent)
}
