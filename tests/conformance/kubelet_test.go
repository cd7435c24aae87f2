package conformance

import (
	"context"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"conformance/harness"
)

// The kubelet suite: static pods, from their manifests to the status that the kubelet gives of them.

const served = `apiVersion: v1
kind: Pod
metadata: {name: served, namespace: default}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 5
  initContainers:
  - {name: first, image: %[1]s, args: [to, begin, with]}
  containers:
  - {name: main, image: %[2]s, args: ["0.2"], resources: {limits: {memory: 64Mi, cpu: 200m}}}
`

const bridged = `apiVersion: v1
kind: Pod
metadata: {name: bridged, namespace: default}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - {name: main, image: %s, args: ["0.2"]}
`

const crashing = `apiVersion: v1
kind: Pod
metadata: {name: crashing, namespace: default}
spec:
  hostNetwork: true
  containers:
  - {name: main, image: %s}
`

const failing = `apiVersion: v1
kind: Pod
metadata: {name: failing, namespace: default}
spec:
  hostNetwork: true
  restartPolicy: Never
  containers:
  - {name: main, image: %s, args: [nonsense], terminationMessagePolicy: FallbackToLogsOnError}
`

const lacking = `apiVersion: v1
kind: Pod
metadata: {name: lacking, namespace: default}
spec:
  hostNetwork: true
  containers:
  - {name: main, image: %s}
`

func TestAKubeletRunsStaticPods(t *testing.T) {
	t.Parallel()
	environment := harness.Need(t, []string{"kubelet", "docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, []string{"hello", "ticker", "crash", "unknown-import"})
	place := harness.NewPlace(t)
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	daemon := harness.StartDaemon(t, environment, place, network)
	hello := registry.PushArtifact(t, "pods/hello", "v1", environment.Guest("hello")).Reference
	ticker := registry.PushImage(t, "pods/ticker", "v1", environment.Guest("ticker")).Reference
	crash := registry.PushArtifact(t, "pods/crash", "v1", environment.Guest("crash")).Reference
	lacks := registry.PushArtifact(t, "pods/lacking", "v1", environment.Guest("unknown-import")).Reference
	kubelet := harness.StartKubelet(t, environment, place, daemon)

	harness.Step(t, "a static pod reaches Running, after its init container", func(t *testing.T) {
		start := time.Now()
		kubelet.Run(t, "served", fmt.Sprintf(served, hello, ticker))
		pod := running(t, kubelet, "served")
		t.Logf("file to Running: %v, with the pulls of two images", time.Since(start).Round(10*time.Millisecond))
		first, main := pod.Status.InitContainerStatuses[0], pod.Status.ContainerStatuses[0]
		ended := first.State.Terminated
		if ended == nil || ended.ExitCode != 0 || ended.Reason != "Completed" {
			t.Fatalf("the init container's state is %+v", first.State)
		}
		if main.State.Running.StartedAt.Before(&ended.FinishedAt) {
			t.Errorf("main started at %v, before the init container ended at %v", main.State.Running.StartedAt, ended.FinishedAt)
		}
		if !strings.HasPrefix(main.ContainerID, "cri-wasm://") {
			t.Errorf("its id is %s", main.ContainerID)
		}
		if main.RestartCount != 0 || first.RestartCount != 0 {
			t.Errorf("restarts: %d of main, %d of the init container", main.RestartCount, first.RestartCount)
		}
	})
	harness.Step(t, "its logs have their lines", func(t *testing.T) {
		pod, err := kubelet.Pod("served")
		if err != nil {
			t.Fatal(err)
		}
		harness.Until(t, 10*time.Second, "the init container's lines", func() error {
			text, err := kubelet.Log(pod, pod.Status.InitContainerStatuses[0])
			if err != nil {
				return err
			}
			return wants(text, "Hello from WebAssembly!", `"to", "begin", "with"`)
		})
		harness.Until(t, 10*time.Second, "main's lines", func() error { return ticksFollow(kubelet, pod, 3) })
	})
	harness.Step(t, "a pod on the bridge has an address of its range", func(t *testing.T) {
		kubelet.Run(t, "bridged", fmt.Sprintf(bridged, ticker))
		pod := running(t, kubelet, "bridged")
		if ip := net.ParseIP(pod.Status.PodIP); ip == nil || !network.Range.Contains(ip) {
			t.Errorf("its address is %q, the range is %s", pod.Status.PodIP, network.Range)
		}
	})
	harness.Step(t, "a guest that fails shows its code and its last words", func(t *testing.T) {
		kubelet.Run(t, "failing", fmt.Sprintf(failing, ticker))
		harness.Until(t, 30*time.Second, "the pod fails", func() error {
			pod, err := kubelet.Pod("failing")
			if err != nil {
				return err
			}
			ended, err := terminated(pod)
			if err != nil {
				return err
			}
			if pod.Status.Phase != core.PodFailed || ended.ExitCode != 2 || ended.Reason != "Error" {
				return fmt.Errorf("phase %s, %+v", pod.Status.Phase, ended)
			}
			return wants(ended.Message, "ticker: nonsense: not a number of seconds")
		})
	})
	harness.Step(t, "an image whose module asks for what no guest is given says so in the pod's status", func(t *testing.T) {
		kubelet.Run(t, "lacking", fmt.Sprintf(lacking, lacks))
		harness.Until(t, 30*time.Second, "the pull fails", func() error {
			pod, err := kubelet.Pod("lacking")
			if err != nil {
				return err
			}
			if len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Waiting == nil {
				return fmt.Errorf("not waiting: %+v", pod.Status.ContainerStatuses)
			}
			waiting := pod.Status.ContainerStatuses[0].State.Waiting
			if waiting.Reason != "ErrImagePull" && waiting.Reason != "ImagePullBackOff" {
				return fmt.Errorf("it waits for %s: %s", waiting.Reason, waiting.Message)
			}
			return wants(waiting.Message, lacks, "the module imports", "which no guest is given")
		})
	})
	harness.Step(t, "a guest that crashes is restarted with back-off; code, reason and message stand in the pod's status", func(t *testing.T) {
		kubelet.Run(t, "crashing", fmt.Sprintf(crashing, crash))
		// When each container of the pod started. The kubelet says CrashLoopBackOff only at moments, but its pauses tell: none
		// after the first end, then 10 s, 20 s, 40 s.
		starts := map[string]time.Time{}
		var pod core.Pod
		harness.Until(t, 120*time.Second, "three restarts", func() (err error) {
			if pod, err = kubelet.Pod("crashing"); err != nil {
				return err
			}
			if len(pod.Status.ContainerStatuses) == 0 {
				return fmt.Errorf("no container yet")
			}
			status := pod.Status.ContainerStatuses[0]
			for _, ended := range []*core.ContainerStateTerminated{status.State.Terminated, status.LastTerminationState.Terminated} {
				if ended != nil {
					starts[ended.ContainerID] = ended.StartedAt.Time
				}
			}
			if _, known := starts[status.ContainerID]; status.RestartCount < 3 || !known || len(starts) < 3 {
				return fmt.Errorf("%d restarts, %+v", status.RestartCount, status.State)
			}
			return nil
		})
		order := slices.SortedFunc(maps.Values(starts), time.Time.Compare)
		order = order[len(order)-3:]
		first, second := order[1].Sub(order[0]), order[2].Sub(order[1])
		t.Logf("pauses between restarts: %v, %v", first, second)
		// Its times are whole seconds.
		if first < 9*time.Second || second < 19*time.Second {
			t.Errorf("no back-off: started at %v", order)
		}
		last := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated
		if last == nil {
			t.Fatalf("no last state: %+v", pod.Status.ContainerStatuses[0])
		}
		if last.ExitCode != 134 || last.Reason != "Trap" {
			t.Errorf("code %d, reason %q", last.ExitCode, last.Reason)
		}
		if err := wants(last.Message, "divide by zero", "average_of_nothing"); err != nil {
			t.Error(err)
		}
	})
	harness.Step(t, "a daemon that is killed and started again restarts no pod", func(t *testing.T) {
		before := map[string]core.ContainerStatus{}
		for _, name := range []string{"served", "bridged"} {
			before[name] = running(t, kubelet, name).Status.ContainerStatuses[0]
		}
		daemon.Kill()
		// Longer than a tick and than the kubelet's look at its containers, so that both notice.
		time.Sleep(3 * time.Second)
		daemon.Start(t)
		harness.Until(t, 30*time.Second, "the kubelet gets answers again", func() error { return listed(t, daemon, len(before)) })
		// The kubelet looks every second, and resyncs each pod once a minute or when something seems to have changed.
		time.Sleep(15 * time.Second)
		for name, before := range before {
			pod := running(t, kubelet, name)
			after := pod.Status.ContainerStatuses[0]
			if after.ContainerID != before.ContainerID || after.RestartCount != before.RestartCount {
				t.Errorf("%s: %s with %d restarts, before it was %s with %d", name, after.ContainerID, after.RestartCount, before.ContainerID, before.RestartCount)
			}
			if !after.State.Running.StartedAt.Equal(&before.State.Running.StartedAt) {
				t.Errorf("%s started at %v, before it was %v", name, after.State.Running.StartedAt, before.State.Running.StartedAt)
			}
			if err := ticksFollow(kubelet, pod, 30); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	harness.Step(t, "pods go when their manifests go", func(t *testing.T) {
		for _, name := range []string{"served", "bridged", "failing", "lacking", "crashing"} {
			kubelet.Remove(t, name)
		}
		harness.Until(t, 60*time.Second, "the kubelet has no pods", func() error {
			pods, err := kubelet.Pods()
			if err == nil && len(pods) > 0 {
				err = fmt.Errorf("%d pods", len(pods))
			}
			return err
		})
		// Sandboxes are removed by the kubelet's garbage collection, once a minute.
		harness.Until(t, 150*time.Second, "the daemon has no sandboxes", func() error { return empty(t, daemon) })
	})
	harness.Step(t, "nothing of them is left", func(t *testing.T) {
		harness.Until(t, 30*time.Second, "leftovers go", func() error {
			return harness.NothingLeft(daemon.Leftovers(), network.Leftovers(), kubelet.PodCgroups())
		})
		kubelet.Stop(t)
	})
}

// running waits until all containers of a pod run.
func running(t *testing.T, kubelet *harness.Kubelet, name string) core.Pod {
	t.Helper()
	var pod core.Pod
	harness.Until(t, 60*time.Second, name+" runs", func() (err error) {
		if pod, err = kubelet.Pod(name); err != nil {
			return err
		}
		if pod.Status.Phase != core.PodRunning || len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Running == nil {
			return fmt.Errorf("phase %s, init containers %+v, containers %+v", pod.Status.Phase, pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
		}
		return nil
	})
	return pod
}

func terminated(pod core.Pod) (*core.ContainerStateTerminated, error) {
	if len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Terminated == nil {
		return nil, fmt.Errorf("not ended: %+v", pod.Status.ContainerStatuses)
	}
	return pod.Status.ContainerStatuses[0].State.Terminated, nil
}

var tick = regexp.MustCompile(`(?m)^tick (\d+) at`)

// ticksFollow is an error unless the log has at least so many ticks, from 1 on, without a gap.
func ticksFollow(kubelet *harness.Kubelet, pod core.Pod, least int) error {
	text, err := kubelet.Log(pod, pod.Status.ContainerStatuses[0])
	if err != nil {
		return err
	}
	found := tick.FindAllStringSubmatch(text, -1)
	for i, match := range found {
		if number, err := strconv.Atoi(match[1]); err != nil || number != i+1 {
			return fmt.Errorf("tick %s where %d is due", match[1], i+1)
		}
	}
	if len(found) < least {
		return fmt.Errorf("%d ticks, not %d:\n%s", len(found), least, text)
	}
	return nil
}

// listed is an error unless the daemon lists at least so many ready sandboxes.
func listed(t *testing.T, daemon *harness.Daemon, least int) error {
	t.Helper()
	sandboxes, err := sandboxes(t, daemon)
	if err != nil {
		return err
	}
	ready := 0
	for _, sandbox := range sandboxes {
		if sandbox.State == cri.PodSandboxState_SANDBOX_READY {
			ready++
		}
	}
	if ready < least {
		return fmt.Errorf("%d ready sandboxes, not %d", ready, least)
	}
	return nil
}

func empty(t *testing.T, daemon *harness.Daemon) error {
	t.Helper()
	sandboxes, err := sandboxes(t, daemon)
	if err == nil && len(sandboxes) > 0 {
		err = fmt.Errorf("%d sandboxes: %+v", len(sandboxes), sandboxes)
	}
	return err
}

func sandboxes(t *testing.T, daemon *harness.Daemon) ([]*cri.PodSandbox, error) {
	t.Helper()
	runtime, _, hangUp := daemon.Clients(t)
	defer hangUp()
	deadline, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	response, err := runtime.ListPodSandbox(deadline, &cri.ListPodSandboxRequest{})
	if err != nil {
		return nil, err
	}
	return response.Items, nil
}
