package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"conformance/harness"
)

// Kubelets that do not poll lists: one follows events, one takes its lists as streams.

const lasting = `apiVersion: v1
kind: Pod
metadata: {name: lasting, namespace: default}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 5
  initContainers:
  - {name: first, image: %[1]s, args: [echo, first]}
  containers:
  - {name: main, image: %[1]s}
  - {name: other, image: %[1]s}
`

const once = `apiVersion: v1
kind: Pod
metadata: {name: once, namespace: default}
spec:
  hostNetwork: true
  restartPolicy: Never
  containers:
  - {name: main, image: %[1]s, args: [exit, "7"]}
`

func TestAKubeletFollowsEvents(t *testing.T) {
	t.Parallel()
	node, kubelet := startNode(t, harness.KubeletOptions{Gates: map[string]bool{"EventedPLEG": true}})
	metric := func(t *testing.T, name string) float64 {
		t.Helper()
		value, err := kubelet.Metric(name)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	harness.Step(t, "it subscribes once", func(t *testing.T) {
		harness.Until(t, 10*time.Second, "a subscription", func() error {
			if count := metric(t, "kubelet_evented_pleg_connection_success_count"); count != 1 {
				return fmt.Errorf("%v subscriptions", count)
			}
			return nil
		})
	})
	lists := metric(t, "kubelet_pleg_relist_duration_seconds_count")
	begin := time.Now()
	harness.Step(t, "a pod runs, after its init container", func(t *testing.T) {
		kubelet.Run(t, "lasting", fmt.Sprintf(lasting, node.image.Reference))
		allRun(t, kubelet, "lasting")
		t.Logf("file to Running: %v", time.Since(begin).Round(10*time.Millisecond))
	})
	harness.Step(t, "a container that ends has ended for the kubelet too, and is started again", func(t *testing.T) {
		kubelet.Run(t, "once", fmt.Sprintf(once, node.image.Reference))
		harness.Until(t, 30*time.Second, "the pod fails", func() error {
			pod, err := kubelet.Pod("once")
			if err != nil {
				return err
			}
			ended, err := terminated(pod)
			if err != nil || ended.ExitCode != 7 || pod.Status.Phase != core.PodFailed {
				return fmt.Errorf("phase %s, %+v, %v", pod.Status.Phase, ended, err)
			}
			return nil
		})
		stopContainer(t, node, kubelet, "lasting", "main")
		harness.Until(t, 30*time.Second, "main is started again", func() error { return restarted(kubelet, "lasting", "main", 1) })
	})
	harness.Step(t, "a pod whose sandbox goes gets a new one, and no third when the first is removed", func(t *testing.T) {
		before := sandboxOf(t, node, "lasting")
		if len(before) != 1 {
			t.Fatalf("its sandboxes are %+v", before)
		}
		call(t, node, func(ctx context.Context, runtime cri.RuntimeServiceClient) error {
			_, err := runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: before[0].Id})
			return err
		})
		harness.Until(t, 60*time.Second, "the pod runs in a new sandbox", func() error {
			if found := sandboxOf(t, node, "lasting"); len(found) != 2 {
				return fmt.Errorf("its sandboxes are %+v", found)
			}
			return restarted(kubelet, "lasting", "main", 1)
		})
		allRun(t, kubelet, "lasting")
		call(t, node, func(ctx context.Context, runtime cri.RuntimeServiceClient) error {
			_, err := runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: before[0].Id})
			return err
		})
		// Longer than the kubelet takes to work on the pod again.
		time.Sleep(12 * time.Second)
		after := sandboxOf(t, node, "lasting")
		if len(after) != 1 || after[0].Id == before[0].Id || after[0].State != cri.PodSandboxState_SANDBOX_READY {
			t.Errorf("its sandboxes are %+v", after)
		}
		allRun(t, kubelet, "lasting")
	})
	harness.Step(t, "all that by events, and not by lists", func(t *testing.T) {
		events := metric(t, "kubelet_evented_pleg_connection_latency_seconds_count")
		lists := metric(t, "kubelet_pleg_relist_duration_seconds_count") - lists
		t.Logf("%v events, %v lists in %v", events, lists, time.Since(begin).Round(time.Second))
		// Without the gate it lists every second.
		if events < 20 || lists > 3 {
			t.Errorf("%v events and %v lists", events, lists)
		}
		if errors := metric(t, "kubelet_evented_pleg_connection_error_count"); errors != 0 {
			t.Errorf("the stream ended %v times", errors)
		}
	})
	harness.Step(t, "what ends while the daemon is away is noticed", func(t *testing.T) {
		pod := allRun(t, kubelet, "lasting")
		pid, before := guest(t, node, pod, "other"), containerOf(pod, "other").RestartCount
		node.daemon.Kill()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		node.daemon.Start(t)
		harness.Until(t, 60*time.Second, "other is started again", func() error { return restarted(kubelet, "lasting", "other", before+1) })
	})
	finishNode(t, node, kubelet, "lasting", "once")
}

func TestAKubeletListsByStreams(t *testing.T) {
	t.Parallel()
	node, kubelet := startNode(t, harness.KubeletOptions{Gates: map[string]bool{"CRIListStreaming": true}})
	kubelet.Run(t, "lasting", fmt.Sprintf(lasting, node.image.Reference))
	harness.Step(t, "a pod runs, and what ends is started again", func(t *testing.T) {
		allRun(t, kubelet, "lasting")
		stopContainer(t, node, kubelet, "lasting", "main")
		harness.Until(t, 30*time.Second, "main is started again", func() error { return restarted(kubelet, "lasting", "main", 1) })
	})
	harness.Step(t, "no call of its lists was refused", func(t *testing.T) {
		said, err := os.ReadFile(filepath.Join(node.place.Disk, "kubelet.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(said), "\n") {
			if strings.Contains(line, "falling back to List") || strings.Contains(line, "recv failed") {
				t.Error(line)
			}
		}
	})
	finishNode(t, node, kubelet, "lasting")
}

func call(t *testing.T, node inside, ask func(context.Context, cri.RuntimeServiceClient) error) {
	t.Helper()
	runtime, _, hangUp := node.daemon.Clients(t)
	defer hangUp()
	deadline, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := ask(deadline, runtime); err != nil {
		t.Fatal(err)
	}
}

// sandboxOf are the sandboxes of a static pod.
func sandboxOf(t *testing.T, node inside, pod string) []*cri.PodSandbox {
	t.Helper()
	all, err := sandboxes(t, node.daemon)
	if err != nil {
		t.Fatal(err)
	}
	var found []*cri.PodSandbox
	for _, sandbox := range all {
		if sandbox.Metadata.Name == pod+"-"+harness.NodeName {
			found = append(found, sandbox)
		}
	}
	return found
}

func containerOf(pod core.Pod, name string) core.ContainerStatus {
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name == name {
			return status
		}
	}
	return core.ContainerStatus{}
}

// stopContainer stops a container of a pod behind the kubelet's back.
func stopContainer(t *testing.T, node inside, kubelet *harness.Kubelet, pod, name string) {
	t.Helper()
	found, err := kubelet.Pod(pod)
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimPrefix(containerOf(found, name).ContainerID, "cri-wasm://")
	call(t, node, func(ctx context.Context, runtime cri.RuntimeServiceClient) error {
		_, err := runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id})
		return err
	})
}

// guest is the process of a container.
func guest(t *testing.T, node inside, pod core.Pod, name string) int {
	t.Helper()
	id := strings.TrimPrefix(containerOf(pod, name).ContainerID, "cri-wasm://")
	var info struct{ PID int }
	call(t, node, func(ctx context.Context, runtime cri.RuntimeServiceClient) error {
		status, err := runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(status.Info["info"]), &info)
	})
	if info.PID < 2 {
		t.Fatalf("the process of %s is %d", name, info.PID)
	}
	return info.PID
}

func restarted(kubelet *harness.Kubelet, pod, name string, least int32) error {
	found, err := kubelet.Pod(pod)
	if err != nil {
		return err
	}
	if status := containerOf(found, name); status.RestartCount < least || status.State.Running == nil {
		return fmt.Errorf("%+v", status)
	}
	return nil
}
