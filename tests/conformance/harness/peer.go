package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Peer is Debian's containerd with runc, on directories of its own: what a bench compares with.
type Peer struct {
	// Socket is where it answers.
	Socket string
	// Image is a native program that does nothing, under the name that critest runs: top.
	Image Pushed
}

// StartPeer starts it and waits until it answers. benches/critest unpacks the programs; they are found through PATH.
func StartPeer(t *testing.T, environment Environment, place Place, network Network, registry Registry, source string) Peer {
	t.Helper()
	programs := map[string]string{}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "runc", "cc"} {
		path, err := exec.LookPath(name)
		if err != nil {
			missing(t, name)
		}
		programs[name] = path
	}
	idle := filepath.Join(place.Disk, "idle")
	if output, err := exec.Command(programs["cc"], "-O1", "-static", "-o", idle, source).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", source, err, output)
	}
	image := Layered{Native: true, Files: map[string]string{"bin/top": idle, "pause": idle}}
	image.Config.Entrypoint = []string{"/pause", "pause"}
	image.Config.Env = []string{"PATH=/bin"}
	peer := Peer{Socket: filepath.Join(place.Memory, "peer.sock"), Image: image.Push(t, registry, "peer/idle", "v1")}
	root, state := filepath.Join(place.Disk, "peer"), filepath.Join(place.Memory, "peer")
	const cri = `plugins."io.containerd.grpc.v1.cri"`
	// Some machines let not even root lower an oom_score_adj, which pause processes want.
	configuration := place.Write(t, "peer.toml", fmt.Sprintf(`version = 2
root = %[1]q
state = %[2]q
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = %[3]q
[plugins."io.containerd.internal.v1.opt"]
path = %[4]q
[%[5]s]
sandbox_image = %[6]q
stream_server_port = "0"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[%[5]s.cni]
bin_dir = %[7]q
conf_dir = %[8]q
[%[5]s.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[%[5]s.containerd.runtimes.runc.options]
BinaryName = %[9]q
Root = %[10]q
`, root, state, peer.Socket, filepath.Join(root, "opt"), cri, peer.Image.Reference, environment.Tool("cni"), network.Configuration,
		programs["runc"], filepath.Join(place.Memory, "runc")))
	process := start(t, filepath.Join(place.Disk, "containerd.log"), nil, programs["containerd"], "--config", configuration)
	t.Cleanup(func() {
		process.end(t)
		unmountBelow(t, place.Memory)
		unmountBelow(t, place.Disk)
	})
	Until(t, 30*time.Second, "containerd answers", func() error {
		if err := process.Alive(); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(peer.Socket)
		return err
	})
	return peer
}
