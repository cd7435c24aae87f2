package conformance

import (
	"encoding/json"
	"fmt"
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

// A kubelet with every feature gate that touches a runtime, switched on and switched off: the same pods, and what each gate
// promises.

// %[1]s is the toolbox, %[2]s the image that is mounted, %[3]s a directory of the node.
const gated = `apiVersion: v1
kind: Pod
metadata: {name: gated, namespace: default}
spec:
  os: {name: linux}
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: %[1]s
    command: [sh, -c, "while :; do echo still here >>/kept; sleep 0.2; done"]
    resources: {limits: {memory: 96Mi, cpu: 500m}}
%[4]s
    volumeMounts:
    - {name: image, mountPath: /image, readOnly: true}
    - {name: image, mountPath: /etc-of-it, subPath: etc, readOnly: true}
    - {name: fixed, mountPath: /fixed, readOnly: true}
  volumes:
  - {name: image, image: {reference: %[2]s}}
  - {name: fixed, hostPath: {path: %[3]s}}
`

// Its sandbox's user namespace is the pod's own.
const remapped = `apiVersion: v1
kind: Pod
metadata: {name: remapped, namespace: default}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 5
  containers:
  - {name: main, image: %s, command: [sh, -c, "id -u; sleep infinity"]}
`

func TestAKubeletWithEveryGateOnAndOff(t *testing.T) {
	t.Parallel()
	for name, gates := range map[string]map[string]bool{
		"on": {
			"EventedPLEG": true, "CRIListStreaming": true, "PodAndContainerStatsFromCRI": true, "ContainerStopSignals": true,
			"RuntimeClassInImageCriApi": true, "KubeletInUserNamespace": true, "ImageVolumeWithDigest": true,
			"KubeletEnsureSecretPulledImages": true, "KubeletSeparateDiskGC": true,
		},
		"off": {
			"EventedPLEG": false, "CRIListStreaming": false, "PodAndContainerStatsFromCRI": false, "ContainerStopSignals": false,
			"RuntimeClassInImageCriApi": false, "KubeletInUserNamespace": false, "ImageVolumeWithDigest": false,
			"KubeletEnsureSecretPulledImages": false, "KubeletSeparateDiskGC": false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gatesRun(t, gates)
		})
	}
}

func gatesRun(t *testing.T, gates map[string]bool) {
	environment := harness.Need(t, []string{"kubelet", "docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, []string{"toolbox"})
	place := harness.NewPlace(t)
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	daemon := harness.StartDaemon(t, environment, place, network)
	toolbox := registry.PushToolbox(t, environment, place, "gates/toolbox:v1")
	volume := harness.Layered{Texts: map[string]string{"etc/motto": "read and run\n", "bin/sh": "of no use"}}.Push(t, registry, "gates/volume", "v1")
	fixed := place.Write(t, "fixed/there", "as it was\n")
	kubelet := harness.StartKubelet(t, environment, place, daemon, harness.KubeletOptions{Gates: gates})
	runtime, images, hangUp := daemon.Clients(t)
	defer hangUp()

	var pod core.Pod
	var container string
	harness.Step(t, "a pod with image volumes runs", func(t *testing.T) {
		lifecycle := ""
		if gates["ContainerStopSignals"] {
			lifecycle = "    lifecycle: {stopSignal: SIGUSR1}"
		}
		kubelet.Run(t, "gated", fmt.Sprintf(gated, toolbox.Reference, volume.Reference, strings.TrimSuffix(fixed, "/there"), lifecycle))
		pod = running(t, kubelet, "gated")
		container = strings.TrimPrefix(pod.Status.ContainerStatuses[0].ContainerID, "cri-wasm://")
	})
	said := func(t *testing.T, command string) string {
		t.Helper()
		answer, err := runtime.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: container, Cmd: []string{"sh", "-c", command}, Timeout: 30})
		if err != nil {
			t.Fatal(err)
		}
		return string(answer.Stdout) + string(answer.Stderr)
	}
	harness.Step(t, "its volumes hold what they should and nobody writes to them", func(t *testing.T) {
		for command, want := range map[string]string{
			"cat /image/etc/motto /etc-of-it/motto /fixed/there": "read and run\nread and run\nas it was\n",
			"touch /image/new": "touch: /image/new: Read-only file system\n",
			"touch /fixed/new": "touch: /fixed/new: Read-only file system\n",
		} {
			if got := said(t, command); got != want {
				t.Errorf("%s: %q", command, got)
			}
		}
		status, err := runtime.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: container})
		if err != nil {
			t.Fatal(err)
		}
		mounted := 0
		for _, mount := range status.Status.Mounts {
			if mount.Image.GetImage() != "" && mount.Readonly {
				mounted++
			}
		}
		if mounted != 2 {
			t.Errorf("the mounts are %v", status.Status.Mounts)
		}
		if want := map[bool]cri.Signal{true: cri.Signal_SIGUSR1, false: cri.Signal_SIGTERM}[gates["ContainerStopSignals"]]; status.Status.StopSignal != want {
			t.Errorf("it is stopped by %v, not %v", status.Status.StopSignal, want)
		}
	})
	harness.Step(t, "a pod with users of its own runs where the runtime says that it can, and is refused where not", func(t *testing.T) {
		kubelet.Run(t, "remapped", fmt.Sprintf(remapped, toolbox.Reference))
		answer, err := runtime.Status(t.Context(), &cri.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		able := slices.ContainsFunc(answer.RuntimeHandlers, func(handler *cri.RuntimeHandler) bool {
			return handler.Name == "" && handler.Features.GetUserNamespaces()
		})
		t.Logf("the default handler can: %v", able)
		if able {
			pod := running(t, kubelet, "remapped")
			harness.Until(t, 10*time.Second, "it says who it is", func() error {
				text, err := kubelet.Log(pod, pod.Status.ContainerStatuses[0])
				if err == nil && text != "0\n" {
					err = fmt.Errorf("%q", text)
				}
				return err
			})
		} else {
			harness.Until(t, 30*time.Second, "the kubelet says so", func() error {
				if len(kubelet.Said(t, "remapped", "user namespace")) == 0 {
					return fmt.Errorf("nothing about user namespaces in its log")
				}
				return nil
			})
		}
		kubelet.Remove(t, "remapped")
	})
	harness.Step(t, "the summary of stats has values", func(t *testing.T) {
		harness.Until(t, 60*time.Second, "they come", func() error { return summaryHasValues(kubelet, gates["PodAndContainerStatsFromCRI"]) })
	})
	harness.Step(t, "its metrics have values", func(t *testing.T) {
		resources := []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "pod_memory_working_set_bytes"}
		harness.Until(t, 60*time.Second, "/metrics/resource", func() error { return metrics(kubelet, "/metrics/resource", "gated", resources...) })
		if gates["PodAndContainerStatsFromCRI"] {
			names := []string{
				"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_memory_rss", "container_processes",
				"container_network_receive_bytes_total", "container_fs_usage_bytes", "container_spec_memory_limit_bytes", "container_start_time_seconds",
			}
			harness.Until(t, 60*time.Second, "/metrics/cadvisor", func() error { return metrics(kubelet, "/metrics/cadvisor", "gated", names...) })
		}
		if gates["EventedPLEG"] {
			if err := metrics(kubelet, "/metrics", "", "kubelet_evented_pleg_connection_success_count"); err != nil {
				t.Error(err)
			}
		}
	})
	harness.Step(t, "it restarts what is killed, and notices at once where events tell it", func(t *testing.T) {
		_, err := runtime.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: container})
		if err != nil {
			t.Fatal(err)
		}
		stopped := time.Now()
		harness.Until(t, 60*time.Second, "the restart", func() error {
			now, err := kubelet.Pod("gated")
			if err == nil && (len(now.Status.ContainerStatuses) == 0 || now.Status.ContainerStatuses[0].RestartCount != 1 || now.Status.ContainerStatuses[0].State.Running == nil) {
				err = fmt.Errorf("%+v", now.Status.ContainerStatuses)
			}
			return err
		})
		t.Logf("restarted after %v", time.Since(stopped).Round(10*time.Millisecond))
	})
	harness.Step(t, "pods go when their manifests go", func(t *testing.T) {
		kubelet.Remove(t, "gated")
		harness.Until(t, 60*time.Second, "the pod goes", func() error {
			pods, err := kubelet.Pods()
			if err == nil && len(pods) > 0 {
				err = fmt.Errorf("%d pods", len(pods))
			}
			return err
		})
	})
	harness.Step(t, "its log is quiet about the runtime", func(t *testing.T) {
		noise := [][]string{
			{"eviction", "ailed to get summary stats"}, {"Partial failure issuing cadvisor"},
			{"rpc error", "Internal"}, {"rpc error", "Unknown"}, {"Evented PLEG", "ailed"}, {"mplemented"},
		}
		for _, words := range noise {
			if said := kubelet.Said(t, words...); len(said) > 0 {
				t.Errorf("%d lines with %v, the first: %s", len(said), words, said[0])
			}
		}
	})
	harness.Step(t, "nothing is left", func(t *testing.T) {
		kubelet.Stop(t)
		// Its garbage collection comes once a minute; here nobody waits for it.
		sandboxes, err := runtime.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, sandbox := range sandboxes.Items {
			if _, err := runtime.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: sandbox.Id}); err != nil {
				t.Error(err)
			}
		}
		list, err := images.ListImages(t.Context(), &cri.ListImagesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, image := range list.Images {
			if _, err := images.RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: image.Id}}); err != nil {
				t.Error(err)
			}
		}
		harness.Until(t, 30*time.Second, "leftovers go", func() error {
			return harness.NothingLeft(daemon.Leftovers(), network.Leftovers(), daemon.ImageLeftovers())
		})
	})
}

// summary is what /stats/summary has of a pod, as far as it is looked at.
type summary struct {
	Pods []struct {
		PodRef struct{ Name string }
		CPU    *struct{ UsageCoreNanoSeconds *uint64 }
		Memory *struct{ WorkingSetBytes *uint64 }
		// Where the kubelet asks the runtime.
		Network    *struct{ RxBytes *uint64 }
		Containers []struct {
			Name   string
			CPU    *struct{ UsageCoreNanoSeconds, UsageNanoCores *uint64 }
			Memory *struct{ WorkingSetBytes *uint64 }
			Rootfs *struct{ UsedBytes, InodesUsed *uint64 }
		}
	}
}

func summaryHasValues(kubelet *harness.Kubelet, fromRuntime bool) error {
	body, err := kubelet.Get("/stats/summary")
	if err != nil {
		return err
	}
	var all summary
	if err := json.Unmarshal(body, &all); err != nil {
		return err
	}
	positive := func(value *uint64) bool { return value != nil && *value > 0 }
	for _, pod := range all.Pods {
		if !strings.HasPrefix(pod.PodRef.Name, "gated") {
			continue
		}
		if len(pod.Containers) != 1 {
			return fmt.Errorf("%d containers", len(pod.Containers))
		}
		main := pod.Containers[0]
		switch {
		case main.CPU == nil || !positive(main.CPU.UsageCoreNanoSeconds) || main.CPU.UsageNanoCores == nil:
			return fmt.Errorf("no CPU of the container: %s", body)
		case main.Memory == nil || !positive(main.Memory.WorkingSetBytes):
			return fmt.Errorf("no memory of the container: %s", body)
		case main.Rootfs == nil || !positive(main.Rootfs.UsedBytes) || !positive(main.Rootfs.InodesUsed):
			return fmt.Errorf("no root file system of the container: %s", body)
		case pod.CPU == nil || !positive(pod.CPU.UsageCoreNanoSeconds) || pod.Memory == nil || !positive(pod.Memory.WorkingSetBytes):
			return fmt.Errorf("no CPU or memory of the pod: %s", body)
		case fromRuntime && (pod.Network == nil || pod.Network.RxBytes == nil):
			return fmt.Errorf("no network of the pod: %s", body)
		}
		return nil
	}
	return fmt.Errorf("not the pod: %s", body)
}

// metrics is an error unless the page has each name in a line about the pod, with a value above 0; what counts bytes of a
// network may be 0.
func metrics(kubelet *harness.Kubelet, page, pod string, names ...string) error {
	body, err := kubelet.Get(page)
	if err != nil {
		return err
	}
	for _, name := range names {
		lines := regexp.MustCompile(`(?m)^`+name+`(?:\{([^\n]*)\})? (\S+)(?: \d+)?$`).FindAllStringSubmatch(string(body), -1)
		found := slices.ContainsFunc(lines, func(match []string) bool {
			value, err := strconv.ParseFloat(match[2], 64)
			// The CRI's metrics are whole numbers, and an idle guest takes less than a second of a processor.
			small := strings.Contains(name, "_network_") || page == "/metrics/cadvisor" && strings.Contains(name, "_cpu_")
			return err == nil && strings.Contains(match[1], pod) && (value > 0 || small)
		})
		if !found {
			return fmt.Errorf("%s has no value of %s for %q: %v", page, name, pod, lines)
		}
	}
	return nil
}
