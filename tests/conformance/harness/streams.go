package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
)

// Transports are those that kubectl has: the newer one, and the one that it falls back to.
var Transports = []string{"WebSocket", "SPDY"}

// Stream is one exec or attach session as kubectl asks for it.
type Stream struct {
	// Transport is one of Transports.
	Transport string
	Pod       core.Pod
	Container string
	// Command is what is run; none: attach.
	Command        []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Sizes are the sizes of a terminal; none: there is no terminal.
	Sizes remotecommand.TerminalSizeQueue
}

// Stream runs a session against the kubelet's own server. A command that fails is exec.CodeExitError.
func (k *Kubelet) Stream(context context.Context, stream Stream) error {
	query := url.Values{}
	kind := "attach"
	if len(stream.Command) > 0 {
		kind = "exec"
		query["command"] = stream.Command
	}
	tty := stream.Sizes != nil
	for name, wanted := range map[string]bool{"input": stream.Stdin != nil, "output": stream.Stdout != nil, "error": stream.Stderr != nil, "tty": tty} {
		if wanted {
			query.Set(name, "1")
		}
	}
	address := k.address(kind, stream.Pod, query)
	address.Path += "/" + stream.Container
	var executor remotecommand.Executor
	var err error
	switch stream.Transport {
	case "WebSocket":
		executor, err = remotecommand.NewWebSocketExecutor(k.client(), http.MethodGet, address.String())
	case "SPDY":
		executor, err = remotecommand.NewSPDYExecutor(k.client(), http.MethodPost, address)
	default:
		err = fmt.Errorf("no transport is called %q", stream.Transport)
	}
	if err != nil {
		return err
	}
	return executor.StreamWithContext(context, remotecommand.StreamOptions{
		Stdin: stream.Stdin, Stdout: stream.Stdout, Stderr: stream.Stderr, Tty: tty, TerminalSizeQueue: stream.Sizes,
	})
}

// Forwarding is a port-forward that runs.
type Forwarding struct {
	// Address is where it listens.
	Address string

	stop  chan struct{}
	ended chan error
}

// Forward forwards a port of a pod; it stops with the test.
func (k *Kubelet) Forward(t *testing.T, transport string, pod core.Pod, port int) *Forwarding {
	t.Helper()
	address := k.address("portForward", pod, nil)
	dialer, err := portforward.NewSPDYOverWebsocketDialer(address, k.client())
	if transport == "SPDY" {
		var roundTripper http.RoundTripper
		var upgrader spdy.Upgrader
		if roundTripper, upgrader, err = spdy.RoundTripperFor(k.client()); err == nil {
			dialer = spdy.NewDialer(upgrader, &http.Client{Transport: roundTripper}, http.MethodPost, address)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	forwarding := &Forwarding{stop: make(chan struct{}), ended: make(chan error, 1)}
	ready := make(chan struct{})
	forwarder, err := portforward.New(dialer, []string{fmt.Sprintf(":%d", port)}, forwarding.stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	go func() { forwarding.ended <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-forwarding.ended:
		t.Fatalf("forwarding port %d: %v", port, err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil || len(ports) != 1 {
		t.Fatalf("%d ports: %v", len(ports), err)
	}
	forwarding.Address = fmt.Sprintf("127.0.0.1:%d", ports[0].Local)
	t.Cleanup(forwarding.Stop)
	return forwarding
}

// Stop ends it, unless it has ended by itself.
func (f *Forwarding) Stop() {
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
}

// Wait waits until it has ended, and returns its reason: nothing after Stop.
func (f *Forwarding) Wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-f.ended:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the port-forward does not end")
		return nil
	}
}

// client is how the kubelet's server is talked to: nobody needs a name, and its certificate is its own.
func (k *Kubelet) client() *rest.Config {
	return &rest.Config{Host: "https://" + k.Server, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

func (k *Kubelet) address(kind string, pod core.Pod, query url.Values) *url.URL {
	return &url.URL{Scheme: "https", Host: k.Server, Path: fmt.Sprintf("/%s/%s/%s", kind, pod.Namespace, pod.Name), RawQuery: query.Encode()}
}
