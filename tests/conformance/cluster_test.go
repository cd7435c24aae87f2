package conformance

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"conformance/harness"
)

// A kubelet that has registered at a real API server: what users do with kubectl, and in-place resize, which static pods
// have not.

// nodeAddress is where the node is reached. It is in the test's own network, so anybody may have it as well.
const nodeAddress = "192.0.2.1"

// %[1]s is the toolbox, %[2]s a server of HTTP on port 80, %[3]s a directory of the node. Without a cluster a kubelet knows
// no runtime class, and so grants no mount that is read-only to its depth.
const ofCluster = `apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: wasm-compat}
handler: wasm-compat
overhead: {podFixed: {memory: 8Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: resized, labels: {app: resized}}
spec:
  nodeName: node
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: %[1]s
    command: [sh, -c, "echo up; while :; do sleep 0.1; done"]
    resources: {requests: {memory: 64Mi, cpu: 100m}, limits: {memory: 128Mi, cpu: 200m}}
---
apiVersion: v1
kind: Pod
metadata: {name: shown}
spec:
  nodeName: node
  runtimeClassName: wasm-compat
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: %[1]s
    command: [sleep, infinity]
    volumeMounts: [{name: fixed, mountPath: /fixed, readOnly: true, recursiveReadOnly: Enabled}]
  - {name: web, image: %[2]s}
  volumes: [{name: fixed, hostPath: {path: %[3]s}}]
`

func TestAClusterResizesAPodInPlace(t *testing.T) {
	if os.Getenv(ownNetwork) == "" {
		t.Parallel()
		inOwnNetwork(t)
		return
	}
	nodeNetwork(t)
	environment := harness.Need(t, []string{"kubelet", "kubectl", "cluster", "docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, []string{"toolbox", "sockets.p2"})
	place := harness.NewPlace(t)
	started := time.Now()
	cluster := harness.StartCluster(t, environment, place)
	t.Logf("the API server is up after %v", time.Since(started).Round(100*time.Millisecond))
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	daemon := harness.StartDaemon(t, environment, place, network)
	images := pushCritestImages(t, environment, place, registry)
	kubelet := harness.StartKubelet(t, environment, place, daemon, harness.KubeletOptions{Cluster: cluster, Node: "node", Address: nodeAddress})
	runtime, _, hangUp := daemon.Clients(t)
	defer hangUp()

	harness.Step(t, "the node is ready, and says what it runs pods with", func(t *testing.T) {
		harness.Until(t, 60*time.Second, "it registers", func() error {
			var node core.Node
			if err := cluster.JSON(&node, "get", "node", "node"); err != nil {
				return err
			}
			for _, condition := range node.Status.Conditions {
				if condition.Type == core.NodeReady && condition.Status == core.ConditionTrue {
					return wants(node.Status.NodeInfo.ContainerRuntimeVersion, "cri-wasm://")
				}
			}
			return fmt.Errorf("%+v", node.Status.Conditions)
		})
	})
	get := func(name string) (core.Pod, error) {
		var pod core.Pod
		return pod, cluster.JSON(&pod, "get", "pod", name)
	}
	runs := func(t *testing.T, name string) core.Pod {
		t.Helper()
		var pod core.Pod
		harness.Until(t, 60*time.Second, name+" runs", func() (err error) {
			if pod, err = get(name); err == nil && pod.Status.Phase != core.PodRunning {
				err = fmt.Errorf("%+v", pod.Status)
			}
			return err
		})
		return pod
	}
	var resized core.Pod
	fixed := place.Write(t, "fixed/there", "as it was\n")
	harness.Step(t, "pods run that the API server was given", func(t *testing.T) {
		cluster.Do(t, fmt.Sprintf(ofCluster, images.standard.Reference, images.web.Reference, filepath.Dir(fixed)), "apply", "-f", "-")
		resized = runs(t, "resized")
		runs(t, "shown")
	})
	harness.Step(t, "kubectl looks into pods", func(t *testing.T) {
		harness.Until(t, 30*time.Second, "logs", func() error {
			output, err := cluster.Kubectl("logs", "resized")
			if err == nil && output != "up\n" {
				err = fmt.Errorf("%q", output)
			}
			return err
		})
		if got := cluster.Do(t, "sent\n", "exec", "-i", "shown", "-c", "main", "--", "sh", "-c", "cat; hostname"); got != "sent\nshown\n" {
			t.Errorf("exec: %q", got)
		}
		if _, err := cluster.Kubectl("exec", "resized", "--", "sh", "-c", "exit 7"); err == nil || !strings.Contains(err.Error(), "exit status 7") {
			t.Errorf("exec of what ends with 7: %v", err)
		}
		there := place.Write(t, "copied/there", "there and back\n")
		back := filepath.Join(place.Disk, "copied", "back")
		cluster.Do(t, "", "cp", there, "resized:/tmp/copy")
		cluster.Do(t, "", "cp", "resized:/tmp/copy", back)
		if content, err := os.ReadFile(back); err != nil || string(content) != "there and back\n" {
			t.Errorf("cp: %q, %v", content, err)
		}
		if err := wants(cluster.Do(t, "", "describe", "pod", "resized"), "cri-wasm://", "Started", "memory:  128Mi"); err != nil {
			t.Errorf("describe: %v", err)
		}
		if got := cluster.Do(t, "", "exec", "shown", "-c", "main", "--", "sh", "-c", "cat /fixed/there; touch /fixed/new 2>&1; true"); got != "as it was\ntouch: /fixed/new: Read-only file system\n" {
			t.Errorf("what is read-only to its depth: %q", got)
		}
		if got := cluster.Do(t, "", "exec", "shown", "-c", "main", "--", "cat", "/proc/self/comm"); got != "cat\n" {
			t.Errorf("what the runtime class gives: %q", got)
		}
	})
	harness.Step(t, "kubectl port-forward reaches a server in a pod", func(t *testing.T) {
		forwarded(t, cluster)
	})
	harness.Step(t, "the numbers of pods come through the API server", func(t *testing.T) {
		for path, names := range map[string][]string{
			"/api/v1/nodes/node/proxy/stats/summary":    {`"name": "resized"`, `"workingSetBytes"`, `"usageCoreNanoSeconds"`},
			"/api/v1/nodes/node/proxy/metrics/resource": {`container_memory_working_set_bytes{container="main",namespace="default",pod="resized"}`},
		} {
			harness.Until(t, 60*time.Second, path, func() error {
				output, err := cluster.Kubectl("get", "--raw", path)
				if err == nil {
					err = wants(output, names...)
				}
				return err
			})
		}
	})
	main := resized.Status.ContainerStatuses[0]
	container := strings.TrimPrefix(main.ContainerID, "cri-wasm://")
	for _, step := range []struct {
		name, request, limit string
		cpu, cpuLimit        string
		memory               int64
		quota                int64
	}{
		{"up", "96Mi", "192Mi", "150m", "400m", 192 << 20, 40_000},
		{"down", "32Mi", "64Mi", "50m", "100m", 64 << 20, 10_000},
	} {
		harness.Step(t, "a resize "+step.name+" takes hold without a restart", func(t *testing.T) {
			patch := fmt.Sprintf(`{"spec":{"containers":[{"name":"main","resources":{"requests":{"memory":%q,"cpu":%q},"limits":{"memory":%q,"cpu":%q}}}]}}`,
				step.request, step.cpu, step.limit, step.cpuLimit)
			cluster.Do(t, "", "patch", "pod", "resized", "--subresource", "resize", "--patch", patch)
			patched := time.Now()
			harness.Until(t, 90*time.Second, "the kernel has it", func() error {
				return limits(container, step.memory, step.quota)
			})
			t.Logf("in the kernel after %v", time.Since(patched).Round(10*time.Millisecond))
			harness.Until(t, 90*time.Second, "the status has it", func() error {
				pod, err := get("resized")
				if err != nil {
					return err
				}
				now := pod.Status.ContainerStatuses[0]
				if now.ContainerID != main.ContainerID || now.RestartCount != 0 || now.State.Running == nil {
					t.Fatalf("another container, or a restart: %+v", now)
				}
				if now.Resources == nil || now.Resources.Limits.Memory().Value() != step.memory || now.Resources.Limits.Cpu().String() != step.cpuLimit {
					return fmt.Errorf("%+v", now.Resources)
				}
				for _, condition := range pod.Status.Conditions {
					if condition.Type == core.PodResizeInProgress || condition.Type == core.PodResizePending {
						return fmt.Errorf("%+v", condition)
					}
				}
				return nil
			})
			answer, err := runtime.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: container})
			if err != nil {
				t.Fatal(err)
			}
			if linux := answer.Status.Resources.GetLinux(); linux.GetMemoryLimitInBytes() != step.memory || linux.GetCpuQuota() != step.quota {
				t.Errorf("the runtime says %v", linux)
			}
		})
	}
	harness.Step(t, "pods that are deleted go", func(t *testing.T) {
		cluster.Do(t, "", "delete", "pod", "--all", "--wait", "--timeout", "50s")
	})
	clearNode(t, kubelet, daemon, network)
}

// clearNode takes away what a kubelet leaves of pods that are gone, which itself it would do once a minute, and looks for more.
func clearNode(t *testing.T, kubelet *harness.Kubelet, daemon *harness.Daemon, network harness.Network) {
	t.Helper()
	harness.Step(t, "nothing is left of deleted pods", func(t *testing.T) {
		kubelet.Stop(t)
		runtime, _, hangUp := daemon.Clients(t)
		defer hangUp()
		list, err := runtime.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, sandbox := range list.Items {
			if _, err := runtime.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: sandbox.Id}); err != nil {
				t.Error(err)
			}
		}
		harness.Until(t, 30*time.Second, "leftovers go", func() error {
			return harness.NothingLeft(daemon.Leftovers(), network.Leftovers())
		})
	})
}

// nodeNetwork makes the namespace a node's: loopback, and an address that is not.
func nodeNetwork(t *testing.T) {
	t.Helper()
	for _, command := range []string{"link set lo up", "link add node type bridge", "link set node up", "address add " + nodeAddress + "/32 dev node"} {
		if output, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", command, err, output)
		}
	}
}

// limits is an error unless a container's cgroup has these, in the files of cgroup v1 or v2. A kubelet's period is 100 ms.
func limits(container string, memory, quota int64) error {
	want := map[string]string{
		"memory.limit_in_bytes": fmt.Sprint(memory), "cpu.cfs_quota_us": fmt.Sprint(quota),
		"memory.max": fmt.Sprint(memory), "cpu.max": fmt.Sprintf("%d 100000", quota),
	}
	found := 0
	for file, want := range want {
		for _, path := range harness.CgroupFiles(container, file) {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if got := strings.TrimSpace(string(content)); got != want {
				return fmt.Errorf("%s is %s, not %s", path, got, want)
			}
			found++
		}
	}
	if found != 2 {
		return fmt.Errorf("%d files of its cgroup", found)
	}
	return nil
}

// forwarded asks the server in the pod shown for a page.
func forwarded(t *testing.T, cluster *harness.Cluster) {
	t.Helper()
	context, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := cluster.Command(context, "port-forward", "pod/shown", ":80")
	output, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = command.Wait()
	}()
	said := make([]byte, 200)
	count, err := output.Read(said)
	if err != nil {
		t.Fatal(err)
	}
	port := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).FindSubmatch(said[:count])
	if port == nil {
		t.Fatalf("it says %q", said[:count])
	}
	response, err := http.Get("http://127.0.0.1:" + string(port[1]) + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if page, err := io.ReadAll(response.Body); err != nil || string(page) != "served by shown\n" {
		t.Errorf("the page is %q, %v", page, err)
	}
}
