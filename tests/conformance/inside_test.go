package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"conformance/harness"
)

// What the suites about exec, attach and port-forward have in common: a node with one image of several programs.

// transports are those of crictl.
var transports = []string{"spdy", "websocket"}

// much is the size of what is sent through a session to see whether it arrives unharmed.
const much = 20_000_000

// patience is how long one session may take; it is there so that a session that hangs is a failure of its own.
const patience = 60 * time.Second

// inside is a node with a pod on a bridge.
type inside struct {
	environment harness.Environment
	place       harness.Place
	registry    harness.Registry
	network     harness.Network
	daemon      *harness.Daemon
	crictl      harness.Crictl
	image       harness.Pushed
	podID       string
	podFile     string
	// descriptors is how many files the daemon had open before the pod.
	descriptors int
}

// startInside starts a node with a pod and no containers yet. Its image has the guest probe as /bin/probe, which by itself
// waits for ever, and the guest sockets as /bin/sockets.
func startInside(t *testing.T) inside {
	t.Helper()
	environment := harness.Need(t, []string{"crictl", "docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, []string{"probe", "sockets.p2"})
	place := harness.NewPlace(t)
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	daemon := harness.StartDaemon(t, environment, place, network)
	crictl := harness.NewCrictl(t, environment, place, daemon)
	image := programs(t, environment, registry)
	crictl.Run(t, "pull", image.Reference)
	pod := harness.Pod{Name: "inside-" + place.Name}
	podFile, _ := pod.Write(t, place)
	descriptors := daemon.Descriptors(t)
	return inside{environment, place, registry, network, daemon, crictl, image, crictl.Run(t, "runp", podFile), podFile, descriptors}
}

func programs(t *testing.T, environment harness.Environment, registry harness.Registry) harness.Pushed {
	t.Helper()
	return harness.Layered{
		Files:       map[string]string{"bin/probe": environment.Guest("probe"), "bin/sockets": environment.Guest("sockets.p2")},
		Links:       map[string]string{"usr/bin/named": "../../bin/probe"},
		Directories: []string{"tmp"},
		Config:      v1.Config{Env: []string{"PATH=/usr/bin:/bin"}, Entrypoint: []string{"probe"}, Cmd: []string{"sleep", "forever"}},
	}.Push(t, registry, "inside/programs", "v1")
}

// run creates a container and starts it.
func (i inside) run(t *testing.T, container harness.Container) string {
	t.Helper()
	container.Image = i.image.Reference
	id := i.crictl.Run(t, "create", i.podID, container.Write(t, i.place), i.podFile)
	return i.crictl.Run(t, "start", id)
}

// finish removes the pod and looks for what is left of it and of all sessions.
func (i inside) finish(t *testing.T) {
	t.Helper()
	harness.Step(t, "nothing of it is left", func(t *testing.T) {
		i.crictl.Run(t, "rmp", "--force", i.podID)
		harness.Until(t, 10*time.Second, "leftovers go", func() error {
			return harness.NothingLeft(i.daemon.Leftovers(), i.network.Leftovers())
		})
		harness.Until(t, 10*time.Second, "descriptors go", func() error {
			if now := i.daemon.Descriptors(t); now > i.descriptors {
				return fmt.Errorf("%d descriptors, %d before the pod", now, i.descriptors)
			}
			return nil
		})
	})
}

// guestsAre waits until so many guests run: the containers, and the commands in them.
func (i inside) guestsAre(t *testing.T, count int) {
	t.Helper()
	harness.Until(t, 10*time.Second, "commands end", func() error {
		if guests := i.daemon.Guests(); len(guests) != count {
			return fmt.Errorf("%d guests, not %d: %v", len(guests), count, guests)
		}
		return nil
	})
}

// done is how a session of crictl ended.
type done struct {
	stdout, stderr string
	code           int
}

// session runs a command of crictl to its end. Its input is at its end at once, unless there is one.
func (i inside) session(t *testing.T, stdin io.Reader, arguments ...string) done {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := i.crictl.Command(deadline, arguments...)
	var stdout, stderr bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = stdin, &stdout, &stderr
	err := command.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited || deadline.Err() != nil {
		t.Fatalf("crictl %s: %v after %v, stderr: %s", strings.Join(arguments, " "), err, patience, stderr.String())
	}
	return done{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

func (i inside) wanted(t *testing.T, got, want done, what string) {
	t.Helper()
	if got.stdout != want.stdout || got.code != want.code || want.stderr == "" && got.stderr != "" || !strings.Contains(got.stderr, want.stderr) {
		t.Errorf("%s: got %+v\nnot %+v", what, shortened(got), shortened(want))
	}
}

// shortened is for messages.
func shortened(d done) done {
	if len(d.stdout) > 200 {
		d.stdout = fmt.Sprintf("%d bytes, sha256 %x, ending in %q", len(d.stdout), sha256.Sum256([]byte(d.stdout)), d.stdout[len(d.stdout)-40:])
	}
	return d
}

// noise is bytes that no compression makes smaller and no terminal leaves alone.
func noise(t *testing.T, size int) []byte {
	t.Helper()
	bytes := make([]byte, size)
	if _, err := rand.Read(bytes); err != nil {
		t.Fatal(err)
	}
	return bytes
}

// same is an error unless both have the same digest, which is what the message shows.
func same(got, want []byte) error {
	if sums := [2][32]byte{sha256.Sum256(got), sha256.Sum256(want)}; sums[0] != sums[1] {
		return fmt.Errorf("%d bytes with sha256 %x, not %d with %x", len(got), sums[0], len(want), sums[1])
	}
	return nil
}

// client is a session that is looked at while it runs.
type client struct {
	command        *exec.Cmd
	stdout, stderr *harness.Shown
	ended          chan struct{}
}

// startClient starts it; it is killed when the test ends.
func startClient(t *testing.T, command *exec.Cmd) *client {
	t.Helper()
	started := &client{command, &harness.Shown{}, &harness.Shown{}, make(chan struct{})}
	command.Stdout, command.Stderr = started.stdout, started.stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = command.Wait()
		close(started.ended)
	}()
	t.Cleanup(started.kill)
	return started
}

// kill ends the client by SIGKILL, as one that vanishes.
func (c *client) kill() {
	_ = c.command.Process.Kill()
	<-c.ended
}

func (i inside) inspect(t *testing.T, id string) container {
	t.Helper()
	var inspected struct{ Status container }
	i.crictl.JSON(t, &inspected, "inspect", id)
	return inspected.Status
}

// ended waits for the container's end and its exit code.
func (i inside) ended(t *testing.T, id string, code int) {
	t.Helper()
	harness.Until(t, 10*time.Second, "the container ends", func() error {
		if got := i.inspect(t, id); got.State != "CONTAINER_EXITED" || got.ExitCode != code {
			return fmt.Errorf("it is %s with %d", got.State, got.ExitCode)
		}
		return nil
	})
}

func (i inside) runs(t *testing.T, id string) {
	t.Helper()
	if got := i.inspect(t, id); got.State != "CONTAINER_RUNNING" {
		t.Errorf("the container is %s", got.State)
	}
}

// stops ends a container that runs for ever.
func (i inside) stops(t *testing.T, id string) {
	t.Helper()
	i.crictl.Run(t, "stop", "--timeout", "10", id)
	i.ended(t, id, 143)
}
