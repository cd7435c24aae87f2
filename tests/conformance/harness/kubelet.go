package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
)

// NodeName is how the kubelet calls its node; it stands behind the names of static pods.
const NodeName = "127.0.0.1"

// Kubelet is a real kubelet without a cluster: it runs the static pods of a directory.
type Kubelet struct {
	// Manifests is the directory that it watches.
	Manifests string
	// Cgroup is the cgroup that holds its own ones, which are always called kubepods.
	Cgroup string
	// Server is where it serves exec, attach and port-forward by HTTPS, as HOST:PORT; everybody may do everything there.
	Server string

	process *Process
	url     string
	node    string
}

// KubeletOptions are what a test wants otherwise than most.
type KubeletOptions struct {
	// Gates are feature gates; those that are not here have their defaults.
	Gates map[string]bool
	// Settings are further lines of its configuration.
	Settings string
	// Cluster is where it registers, as Node at Address; none: it runs static pods alone.
	Cluster       *Cluster
	Node, Address string
}

// settingsOfNode are kernel settings that a kubelet changes for its whole machine when it starts.
var settingsOfNode = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// StartKubelet starts a kubelet against a daemon, all its files and cgroups in the test's place.
func StartKubelet(t *testing.T, environment Environment, place Place, daemon *Daemon, options ...KubeletOptions) *Kubelet {
	t.Helper()
	wanted := KubeletOptions{Node: NodeName, Address: "127.0.0.1"}
	for _, option := range options {
		wanted.Gates, wanted.Settings = option.Gates, option.Settings
		if option.Cluster != nil {
			wanted.Cluster, wanted.Node, wanted.Address = option.Cluster, option.Node, option.Address
		}
	}
	restoreSettings(t)
	directory := filepath.Join(place.Disk, "kubelet")
	kubelet := &Kubelet{
		Manifests: filepath.Join(directory, "manifests"),
		Cgroup:    "/" + place.Name + "-node",
		node:      wanted.Node,
	}
	for _, path := range []string{kubelet.Manifests, filepath.Join(directory, "logs")} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Where kubelets make files whatever --root-dir says.
	removeIfNew(t, "/var/lib/kubelet", "/usr/libexec/kubernetes")
	t.Cleanup(func() { removeCgroups(t, kubelet.Cgroup) })
	t.Cleanup(func() { unmountBelow(t, directory) })
	MakeCgroup(t, kubelet.Cgroup)

	port := FreePort(t)
	kubelet.url = fmt.Sprintf("http://%s:%d", wanted.Address, port)
	securePort := FreePort(t)
	kubelet.Server = fmt.Sprintf("%s:%d", wanted.Address, securePort)
	settings := wanted.Settings
	if len(wanted.Gates) > 0 {
		settings += "featureGates: " + string(marshal(t, wanted.Gates)) + "\n"
	}
	// The cgroup, swap and iptables settings are what a machine with cgroup v1, swap or no systemd needs; elsewhere they do
	// no harm.
	configuration := place.Write(t, "kubelet/config.yaml", fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %s
port: %d
readOnlyPort: %d
healthzPort: 0
containerRuntimeEndpoint: unix://%s
cgroupDriver: cgroupfs
cgroupRoot: %s
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
resolvConf: %s
podLogsDir: %s
volumePluginDir: %s
staticPodPath: %s
fileCheckFrequency: 1s
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
enableControllerAttachDetach: false
serializeImagePulls: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: 1%%, nodefs.inodesFree: 1%%, imagefs.available: 1%%}
%s`, wanted.Address, securePort, port, daemon.Socket, kubelet.Cgroup,
		place.Write(t, "kubelet/resolv.conf", "nameserver 127.0.0.1\n"),
		filepath.Join(directory, "logs"), filepath.Join(directory, "plugins"), kubelet.Manifests, settings))
	arguments := []string{
		"--config=" + configuration, "--root-dir=" + filepath.Join(directory, "root"), "--cert-dir=" + filepath.Join(directory, "pki"),
		"--hostname-override=" + wanted.Node, "--v=2",
	}
	if wanted.Cluster != nil {
		arguments = append(arguments, "--kubeconfig="+wanted.Cluster.Kubeconfig, "--node-ip="+wanted.Address)
	}
	kubelet.process = StartProcess(t, filepath.Join(place.Disk, "kubelet.log"), nil, environment.Tool("kubelet"), arguments...)
	Until(t, 60*time.Second, "the kubelet answers", func() error {
		if err := kubelet.process.Alive(); err != nil {
			t.Fatal(err)
		}
		_, err := kubelet.Pods()
		return err
	})
	return kubelet
}

// Said are the lines of its log that have all of these words.
func (k *Kubelet) Said(t *testing.T, words ...string) []string {
	t.Helper()
	var said []string
	for line := range strings.Lines(string(read(t, k.process.Log))) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			said = append(said, strings.TrimSpace(line))
		}
	}
	return said
}

// Get asks it for what it shows of itself, such as /metrics.
func (k *Kubelet) Get(path string) ([]byte, error) { return k.get(path) }

// Run gives the kubelet a static pod; it must not be there yet.
func (k *Kubelet) Run(t *testing.T, name, manifest string) {
	t.Helper()
	// By rename from elsewhere: a file that is half written, or named otherwise first, is another pod to the kubelet.
	written := filepath.Join(filepath.Dir(k.Manifests), name+".yaml")
	if err := os.WriteFile(written, []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(written, filepath.Join(k.Manifests, name+".yaml")); err != nil {
		t.Fatal(err)
	}
}

// Remove takes a static pod away.
func (k *Kubelet) Remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(k.Manifests, name+".yaml")); err != nil {
		t.Fatal(err)
	}
}

// Pods are the pods that the kubelet has, with their status.
func (k *Kubelet) Pods() ([]core.Pod, error) {
	body, err := k.get("/pods")
	if err != nil {
		return nil, err
	}
	var list core.PodList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("/pods: %w", err)
	}
	return list.Items, nil
}

// Pod is one of them by the name in its manifest.
func (k *Kubelet) Pod(name string) (core.Pod, error) {
	pods, err := k.Pods()
	if err != nil {
		return core.Pod{}, err
	}
	for _, pod := range pods {
		if pod.Name == name+"-"+k.node || pod.Name == name {
			return pod, nil
		}
	}
	return core.Pod{}, fmt.Errorf("the kubelet has no pod %s", name)
}

// Log reads the current log file of a container, without the CRI's prefixes.
func (k *Kubelet) Log(pod core.Pod, container core.ContainerStatus) (string, error) {
	path := filepath.Join(filepath.Dir(k.Manifests), "logs", fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID),
		container.Name, fmt.Sprintf("%d.log", container.RestartCount))
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, line := range strings.Split(strings.TrimRight(string(content), "\n"), "\n") {
		if fields := strings.SplitN(line, " ", 4); len(fields) == 4 {
			text.WriteString(fields[3] + "\n")
		}
	}
	return text.String(), nil
}

// Metric is the sum over all labels of one of its own metrics; one that it has not counted yet is 0.
func (k *Kubelet) Metric(name string) (float64, error) {
	body, err := k.get("/metrics")
	if err != nil {
		return 0, err
	}
	var sum float64
	for _, line := range strings.Split(string(body), "\n") {
		rest, found := strings.CutPrefix(line, name)
		if !found || (!strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, "{")) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", line, err)
		}
		sum += value
	}
	return sum, nil
}

// PodCgroups lists the cgroups of pods that it has made and not removed.
func (k *Kubelet) PodCgroups() []string { return PodCgroups(k.Cgroup) }

// Stop ends the kubelet; pods stay.
func (k *Kubelet) Stop(t *testing.T) { k.process.Stop(t) }

func (k *Kubelet) get(path string) ([]byte, error) {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(k.url + path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, response.Status, body)
	}
	return body, err
}

func restoreSettings(t *testing.T) {
	t.Helper()
	for _, name := range settingsOfNode {
		path := filepath.Join("/proc/sys", name)
		before, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.WriteFile(path, before, 0o644) })
	}
}

func removeIfNew(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(path); os.IsNotExist(err) {
			t.Cleanup(func() { _ = os.RemoveAll(path) })
		}
	}
}
