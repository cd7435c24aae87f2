package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Daemon is cri-wasm on directories of its own.
type Daemon struct {
	// Root and State are its directories, Socket is where it answers.
	Root, State, Socket string
	// CgroupParent is the cgroup of pods that name none, as a path below each hierarchy.
	CgroupParent string

	environment   Environment
	place         Place
	configuration string
	log           string
	process       *Process
}

// StartDaemon writes a configuration, starts cri-wasm with it and waits until it answers. Further tables of the
// configuration come after those that each test needs.
func StartDaemon(t *testing.T, environment Environment, place Place, network Network, tables ...string) *Daemon {
	t.Helper()
	daemon := &Daemon{
		Root:         filepath.Join(place.Disk, "root"),
		State:        filepath.Join(place.Memory, "state"),
		Socket:       filepath.Join(place.Memory, "cri.sock"),
		CgroupParent: "/" + place.Name,
		environment:  environment,
		place:        place,
		log:          filepath.Join(place.Disk, "cri-wasm.log"),
	}
	daemon.configuration = place.Write(t, "config.toml", fmt.Sprintf(`root = %q
state = %q
socket = %q

[network]
conf_dir = %q
bin_dirs = [%q]
cache_dir = %q
netns_dir = %q

[cgroup]
default_parent = %q
`, daemon.Root, daemon.State, daemon.Socket,
		network.Configuration, environment.Tool("cni"), filepath.Join(place.Disk, "cni-cache"), filepath.Join(place.Memory, "netns"),
		daemon.CgroupParent)+strings.Join(tables, "\n"))
	// Here and not in Start, which a part of the test may call: the daemon outlives that part.
	t.Cleanup(func() { daemon.end(t) })
	daemon.Start(t)
	return daemon
}

// Start starts the daemon, again after Kill, and waits until it answers.
func (d *Daemon) Start(t *testing.T) {
	t.Helper()
	d.process = start(t, d.log, nil, d.environment.Daemon, "serve", "--config", d.configuration)
	Until(t, 30*time.Second, "the daemon answers", func() error {
		if err := d.process.Alive(); err != nil {
			t.Fatal(err)
		}
		runtime, _, hangUp := d.Clients(t)
		defer hangUp()
		deadline, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err := runtime.Version(deadline, &cri.VersionRequest{})
		return err
	})
}

// Kill kills the daemon, and nothing but the daemon, by SIGKILL.
func (d *Daemon) Kill() { d.process.Kill() }

// PID is the daemon's.
func (d *Daemon) PID() int { return d.process.PID() }

// Clients connects to the daemon's two services.
func (d *Daemon) Clients(t *testing.T) (cri.RuntimeServiceClient, cri.ImageServiceClient, func()) {
	t.Helper()
	connection, err := grpc.NewClient("unix://"+d.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	return cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection), func() { _ = connection.Close() }
}

// end stops the daemon and what runs on without it by design: the supervisor, and the guests of a test that failed.
func (d *Daemon) end(t *testing.T) {
	t.Helper()
	if d.process == nil {
		return
	}
	d.process.end(t)
	for _, process := range d.Processes() {
		if found, err := os.FindProcess(process.PID); err == nil {
			_ = found.Kill()
		}
	}
	if err := TryUntil(5*time.Second, func() error { return nothing(d.Processes()) }); err != nil {
		t.Errorf("processes that do not end: %v", err)
	}
	// Only a test that failed has left any.
	unmountBelow(t, d.Root)
	unmountBelow(t, d.place.Memory)
	removeCgroups(t, d.CgroupParent)
}
