package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"conformance/harness"
)

// Commands that a kubelet runs by itself: exec probes and hooks.

const probed = `apiVersion: v1
kind: Pod
metadata: {name: probed, namespace: default}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 5
  containers:
  - name: becomes-ready
    image: %[1]s
    readinessProbe: {exec: {command: [probe, stat, /tmp/ready]}, periodSeconds: 1}
  - name: dies
    image: %[1]s
    args: [touch, /tmp/alive, +, sleep, forever]
    startupProbe: {exec: {command: [probe, stat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 30}
    livenessProbe: {exec: {command: [probe, stat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1}
  - name: too-slow
    image: %[1]s
    readinessProbe: {exec: {command: [probe, append, /tmp/probes, x, +, sleep, forever]}, periodSeconds: 1, timeoutSeconds: 1}
`

const hooked = `apiVersion: v1
kind: Pod
metadata: {name: hooked, namespace: default}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 20
  containers:
  - name: main
    image: %[1]s
    volumeMounts: [{name: shared, mountPath: /shared}]
    lifecycle:
      postStart: {exec: {command: [probe, write, /shared/started, "yes"]}}
      preStop: {exec: {command: [probe, write, /shared/stopping, "yes", +, wait-for, /shared/go-on, "15", +, write, /shared/stopped, "yes"]}}
  volumes: [{name: shared, hostPath: {path: %[2]s}}]
`

const unhooked = `apiVersion: v1
kind: Pod
metadata: {name: unhooked, namespace: default}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 2
  containers:
  - name: main
    image: %[1]s
    lifecycle: {postStart: {exec: {command: [probe, err, no luck, +, exit, "3"]}}}
`

func TestAKubeletRunsExecProbesAndHooks(t *testing.T) {
	t.Parallel()
	node, kubelet := startNode(t)
	shared := filepath.Join(node.place.Disk, "shared")
	if err := os.Mkdir(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	kubelet.Run(t, "probed", fmt.Sprintf(probed, node.image.Reference))
	kubelet.Run(t, "hooked", fmt.Sprintf(hooked, node.image.Reference, shared))
	kubelet.Run(t, "unhooked", fmt.Sprintf(unhooked, node.image.Reference))
	status := func(t *testing.T, pod, name string) core.ContainerStatus {
		t.Helper()
		found, err := kubelet.Pod(pod)
		if err != nil {
			t.Fatal(err)
		}
		for _, status := range found.Status.ContainerStatuses {
			if status.Name == name {
				return status
			}
		}
		return core.ContainerStatus{}
	}
	exec := func(t *testing.T, container string, command ...string) done {
		t.Helper()
		pod, err := kubelet.Pod("probed")
		if err != nil {
			t.Fatal(err)
		}
		return stream(t, kubelet, harness.Stream{Transport: "WebSocket", Pod: pod, Container: container, Command: command})
	}

	harness.Step(t, "a container becomes ready when its probe says so, and unready again", func(t *testing.T) {
		allRun(t, kubelet, "probed")
		for _, step := range []struct {
			command string
			ready   bool
		}{{"touch", true}, {"rm", false}, {"touch", true}} {
			if before := status(t, "probed", "becomes-ready"); before.Ready == step.ready {
				t.Errorf("before %s, ready is %v", step.command, before.Ready)
			}
			node.wanted(t, exec(t, "becomes-ready", "probe", step.command, "/tmp/ready"), done{}, step.command)
			// An unready one has failed three times.
			harness.Until(t, 30*time.Second, "readiness", func() error {
				if now := status(t, "probed", "becomes-ready"); now.Ready != step.ready {
					return fmt.Errorf("ready is %v after %s", now.Ready, step.command)
				}
				return nil
			})
		}
	})
	harness.Step(t, "a container whose liveness probe fails is started again", func(t *testing.T) {
		var before core.ContainerStatus
		harness.Until(t, 30*time.Second, "it has started", func() error {
			if before = status(t, "probed", "dies"); before.Started == nil || !*before.Started || before.RestartCount != 0 {
				return fmt.Errorf("%+v", before)
			}
			return nil
		})
		node.wanted(t, exec(t, "dies", "probe", "rm", "/tmp/alive"), done{}, "rm")
		harness.Until(t, 60*time.Second, "its restart", func() error {
			now := status(t, "probed", "dies")
			if now.RestartCount != 1 || now.ContainerID == before.ContainerID || !now.Ready {
				return fmt.Errorf("%+v", now)
			}
			if last := now.LastTerminationState.Terminated; last == nil || last.ExitCode != 143 {
				t.Errorf("the last one's end: %+v", last)
			}
			return nil
		})
		// It makes the file again, so it lives.
		if now := status(t, "probed", "becomes-ready"); now.RestartCount != 0 {
			t.Errorf("its neighbour was started again: %+v", now)
		}
	})
	harness.Step(t, "a probe that takes too long has failed, and ends", func(t *testing.T) {
		harness.Until(t, 60*time.Second, "three probes", func() error {
			return wants(exec(t, "too-slow", "probe", "cat", "/tmp/probes").stdout, "xxx")
		})
		if now := status(t, "probed", "too-slow"); now.Ready || now.RestartCount != 0 {
			t.Errorf("%+v", now)
		}
		probes := 0
		for _, guest := range node.daemon.Guests() {
			if strings.Contains(guest, "append") {
				probes++
			}
		}
		if probes > 1 {
			t.Errorf("%d probes run at a time", probes)
		}
	})
	harness.Step(t, "postStart runs before a container counts as running", func(t *testing.T) {
		allRun(t, kubelet, "hooked")
		if content, err := os.ReadFile(filepath.Join(shared, "started")); err != nil || string(content) != "yes" {
			t.Errorf("%q, %v", content, err)
		}
	})
	harness.Step(t, "a postStart that fails ends the container", func(t *testing.T) {
		harness.Until(t, 60*time.Second, "its end", func() error {
			now := status(t, "unhooked", "main")
			last := now.LastTerminationState.Terminated
			if last == nil {
				last = now.State.Terminated
			}
			if last == nil || last.ExitCode != 143 {
				return fmt.Errorf("%+v", now)
			}
			return nil
		})
	})
	harness.Step(t, "preStop runs to its end before a container is stopped", func(t *testing.T) {
		in := func(name string) string { return filepath.Join(shared, name) }
		if _, err := os.Stat(in("stopping")); err == nil {
			t.Error("it ran before")
		}
		id := strings.TrimPrefix(status(t, "hooked", "main").ContainerID, "cri-wasm://")
		kubelet.Remove(t, "hooked")
		harness.Until(t, 30*time.Second, "preStop runs", func() error {
			_, err := os.Stat(in("stopping"))
			return err
		})
		node.runs(t, id)
		if err := os.WriteFile(in("go-on"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		harness.Until(t, 30*time.Second, "preStop ends", func() error {
			_, err := os.Stat(in("stopped"))
			return err
		})
		harness.Until(t, 30*time.Second, "the container ends", func() error {
			if running := node.crictl.Run(t, "ps", "-q", "--id", id, "--state", "running"); running != "" {
				return fmt.Errorf("%s runs", running)
			}
			return nil
		})
	})
	finishNode(t, node, kubelet, "probed", "unhooked")
}

// startNode starts a node with a kubelet, and an image of programs as startInside has it.
func startNode(t *testing.T, options ...harness.KubeletOptions) (inside, *harness.Kubelet) {
	t.Helper()
	environment := harness.Need(t, []string{"crictl", "kubelet", "docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, []string{"probe", "sockets.p2"})
	place := harness.NewPlace(t)
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	daemon := harness.StartDaemon(t, environment, place, network)
	node := inside{environment: environment, place: place, registry: registry, network: network, daemon: daemon}
	node.crictl = harness.NewCrictl(t, environment, place, daemon)
	node.image = programs(t, environment, registry)
	return node, harness.StartKubelet(t, environment, place, daemon, options...)
}

// allRun waits until all containers of a pod run.
func allRun(t *testing.T, kubelet *harness.Kubelet, name string) core.Pod {
	t.Helper()
	var pod core.Pod
	harness.Until(t, 60*time.Second, name+" runs", func() (err error) {
		if pod, err = kubelet.Pod(name); err != nil {
			return err
		}
		running := 0
		for _, status := range pod.Status.ContainerStatuses {
			if status.State.Running != nil {
				running++
			}
		}
		if running != len(pod.Spec.Containers) {
			return fmt.Errorf("%d of %d run: %+v", running, len(pod.Spec.Containers), pod.Status.ContainerStatuses)
		}
		return nil
	})
	return pod
}

// finishNode takes the pods away and looks for what is left. The kubelet itself would remove sandboxes once a minute.
func finishNode(t *testing.T, node inside, kubelet *harness.Kubelet, pods ...string) {
	t.Helper()
	harness.Step(t, "pods go, and nothing of them is left", func(t *testing.T) {
		for _, pod := range pods {
			kubelet.Remove(t, pod)
		}
		harness.Until(t, 60*time.Second, "the kubelet has no pods", func() error {
			found, err := kubelet.Pods()
			if err == nil && len(found) > 0 {
				err = fmt.Errorf("%d pods", len(found))
			}
			return err
		})
		harness.Until(t, 30*time.Second, "pods' cgroups go", func() error { return harness.NothingLeft(kubelet.PodCgroups()) })
		kubelet.Stop(t)
		node.crictl.Run(t, "rmp", "--all", "--force")
		harness.Until(t, 10*time.Second, "leftovers go", func() error {
			return harness.NothingLeft(node.daemon.Leftovers(), node.network.Leftovers())
		})
	})
}
