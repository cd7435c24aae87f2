package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	remote "k8s.io/cri-client/pkg"

	"conformance/harness"
)

// The kubelet's own client of the CRI over every RPC of both services: with arguments as they should be, with none, and
// with those that nobody sane sends.

// notThereYet are calls that are still to be written. One that answers is to be taken from here.
var notThereYet = map[string]bool{
	"ListMetricDescriptors": true, "ListPodSandboxMetrics": true,
	"StreamPodSandboxMetrics": true,
}

// neverThere are calls that docs/cri.md says are refused for good.
var neverThere = map[string]bool{"CheckpointContainer": true}

// wire is a node, and three ways to talk to it.
type wire struct {
	daemon  *harness.Daemon
	network harness.Network
	place   harness.Place
	// runtime and images are the kubelet's client; streaming is it with CRIListStreaming.
	runtime, streaming internalapi.RuntimeService
	images             internalapi.ImageManagerService
	// connection is for what that client would not send.
	connection *grpc.ClientConn
	image      string
	counter    int
}

func startWire(t *testing.T) *wire {
	t.Helper()
	environment := harness.Need(t, []string{"docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, []string{"probe", "sockets.p2"})
	place := harness.NewPlace(t)
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	w := &wire{place: place, network: network, daemon: harness.StartDaemon(t, environment, place, network)}
	w.image = programs(t, environment, registry).Reference
	endpoint := "unix://" + w.daemon.Socket
	var problems [4]error
	w.runtime, problems[0] = remote.NewRemoteRuntimeService(t.Context(), endpoint, patience, nil, false)
	w.streaming, problems[1] = remote.NewRemoteRuntimeService(t.Context(), endpoint, patience, nil, true)
	w.images, problems[2] = remote.NewRemoteImageService(t.Context(), endpoint, patience, nil, true)
	w.connection, problems[3] = grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err := errors.Join(problems[:]...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.runtime.Close(context.Background())
		_ = w.streaming.Close(context.Background())
		_ = w.images.Close(context.Background())
		_ = w.connection.Close()
	})
	return w
}

// podConfig is a good one, of another pod each time.
func (w *wire) podConfig() *cri.PodSandboxConfig {
	w.counter++
	name := fmt.Sprintf("pod-%d", w.counter)
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name + "-uid", Namespace: "wire"},
		LogDirectory: filepath.Join(w.place.Disk, "logs", name),
		Labels:       map[string]string{"pod": name},
		Annotations:  map[string]string{"note": "as it was sent"},
		Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
		}},
	}
}

// containerConfig is a good one, of another container each time, which runs until it is stopped.
func (w *wire) containerConfig() *cri.ContainerConfig {
	w.counter++
	name := fmt.Sprintf("container-%d", w.counter)
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: w.image},
		Labels:   map[string]string{"container": name},
		LogPath:  name + ".log",
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuShares: 100, CpuPeriod: 100_000, CpuQuota: 50_000},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
			},
		},
	}
}

// running is a pod with a container that runs.
func (w *wire) running(t *testing.T) (pod string, podConfig *cri.PodSandboxConfig, container string) {
	t.Helper()
	podConfig = w.podConfig()
	pod = good(w.runtime.RunPodSandbox(t.Context(), podConfig, ""))(t, "RunPodSandbox")
	container = good(w.runtime.CreateContainer(t.Context(), pod, w.containerConfig(), podConfig))(t, "CreateContainer")
	fine(t, "StartContainer", w.runtime.StartContainer(t.Context(), container))
	return pod, podConfig, container
}

func (w *wire) remove(t *testing.T, pod string) {
	t.Helper()
	fine(t, "StopPodSandbox", w.runtime.StopPodSandbox(t.Context(), pod))
	fine(t, "RemovePodSandbox", w.runtime.RemovePodSandbox(t.Context(), pod))
}

func TestTheKubeletsClientAndEveryRPC(t *testing.T) {
	t.Parallel()
	w := startWire(t)
	pid := w.daemon.PID()
	goods := w.goodCalls()
	harness.Step(t, "no RPC is left out", func(t *testing.T) {
		for _, method := range methods() {
			if _, has := goods[method.name]; !has {
				t.Errorf("the CRI has %s, and nothing here calls it", method.name)
			}
		}
		if len(goods) != len(methods()) {
			t.Errorf("%d are called, the CRI has %d", len(goods), len(methods()))
		}
	})
	// Images first: the others need one.
	fine(t, "PullImage", goods["PullImage"](t))
	for _, name := range slices.Sorted(maps.Keys(goods)) {
		t.Run("good arguments: "+name, func(t *testing.T) {
			err := goods[name](t)
			switch code := grpcstatus.Code(err); {
			case neverThere[name] || notThereYet[name]:
				if code != codes.Unimplemented {
					t.Errorf("it is expected to be Unimplemented, and answers %s: %v", code, err)
				}
			case err != nil:
				t.Error(err)
			}
		})
	}
	t.Run("no arguments", w.withoutArguments)
	t.Run("hostile ids", w.hostileIDs)
	t.Run("hostile images", w.hostileImages)
	t.Run("hostile commands and streams", w.hostileStreams)
	t.Run("bytes that are no message", w.noMessages)
	t.Run("every field of a pod's configuration, hostile", w.hostilePods)
	t.Run("every field of a container's configuration, hostile", w.hostileContainers)
	t.Run("every field of an update, hostile", w.hostileUpdates)
	harness.Step(t, "the daemon is the same and answers", func(t *testing.T) {
		if w.daemon.PID() != pid {
			t.Errorf("it was %d", pid)
		}
		pod, _, _ := w.running(t)
		w.remove(t, pod)
	})
	harness.Step(t, "nothing is left", func(t *testing.T) {
		harness.Until(t, 10*time.Second, "leftovers go", func() error {
			return harness.NothingLeft(w.daemon.Leftovers(), w.network.Leftovers(), w.strays())
		})
	})
}

// goodCalls has a call of each RPC with arguments as they should be, each with what it needs, looking at the answer.
func (w *wire) goodCalls() map[string]func(t *testing.T) error {
	// of runs a call on a pod and a container of its own.
	of := func(call func(t *testing.T, pod, container string) error) func(t *testing.T) error {
		return func(t *testing.T) error {
			t.Helper()
			pod, _, container := w.running(t)
			defer w.remove(t, pod)
			return call(t, pod, container)
		}
	}
	streamed := func(method string) func(t *testing.T) error {
		return of(func(t *testing.T, _, _ string) error { return w.stream(t, method) })
	}
	calls := map[string]func(t *testing.T) error{
		"Version": func(t *testing.T) error {
			version, err := w.runtime.Version(t.Context(), "v1")
			if err == nil && (version.RuntimeName != "cri-wasm" || version.RuntimeApiVersion != "v1") {
				err = fmt.Errorf("%v", version)
			}
			return err
		},
		"Status": func(t *testing.T) error {
			answer, err := w.runtime.Status(t.Context(), true)
			if err == nil && (len(answer.Status.Conditions) < 2 || len(answer.Info) == 0 || len(answer.RuntimeHandlers) == 0) {
				err = fmt.Errorf("%v", answer)
			}
			return err
		},
		"RuntimeConfig": func(t *testing.T) error {
			answer, err := w.runtime.RuntimeConfig(t.Context())
			if err == nil && answer.Linux.CgroupDriver != cri.CgroupDriver_CGROUPFS {
				err = fmt.Errorf("%v", answer)
			}
			return err
		},
		"UpdateRuntimeConfig": func(t *testing.T) error {
			return w.runtime.UpdateRuntimeConfig(t.Context(), &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: "10.1.0.0/16"}})
		},
		"RunPodSandbox":  of(func(*testing.T, string, string) error { return nil }),
		"StartContainer": of(func(*testing.T, string, string) error { return nil }),
		"StopPodSandbox": of(func(t *testing.T, pod, container string) error {
			fine(t, "StopPodSandbox", w.runtime.StopPodSandbox(t.Context(), pod))
			answer, err := w.runtime.PodSandboxStatus(t.Context(), pod, false)
			if err == nil && answer.Status.State != cri.PodSandboxState_SANDBOX_NOTREADY {
				err = fmt.Errorf("%v", answer.Status.State)
			}
			return err
		}),
		"RemovePodSandbox": of(func(t *testing.T, pod, _ string) error {
			fine(t, "RemovePodSandbox", w.runtime.RemovePodSandbox(t.Context(), pod))
			_, err := w.runtime.PodSandboxStatus(t.Context(), pod, false)
			return wantCode(err, codes.NotFound)
		}),
		"PodSandboxStatus": of(func(t *testing.T, pod, _ string) error {
			answer, err := w.runtime.PodSandboxStatus(t.Context(), pod, true)
			if err == nil && (answer.Status.Id != pod || answer.Status.Annotations["note"] != "as it was sent" || len(answer.Info) == 0) {
				err = fmt.Errorf("%v", answer)
			}
			return err
		}),
		"ListPodSandbox": of(func(t *testing.T, pod, _ string) error {
			list, err := w.runtime.ListPodSandbox(t.Context(), &cri.PodSandboxFilter{Id: pod})
			return one(err, list, func(item *cri.PodSandbox) string { return item.Id }, pod)
		}),
		"CreateContainer": of(func(t *testing.T, pod, _ string) error {
			id, err := w.runtime.CreateContainer(t.Context(), pod, w.containerConfig(), w.podConfig())
			if err == nil && id == "" {
				err = errors.New("no id")
			}
			return err
		}),
		"StopContainer": of(func(t *testing.T, _, container string) error {
			fine(t, "StopContainer", w.runtime.StopContainer(t.Context(), container, 10))
			answer, err := w.runtime.ContainerStatus(t.Context(), container, false)
			if err == nil && (answer.Status.State != cri.ContainerState_CONTAINER_EXITED || answer.Status.ExitCode != 143) {
				err = fmt.Errorf("%v", answer.Status)
			}
			return err
		}),
		"RemoveContainer": of(func(t *testing.T, _, container string) error {
			fine(t, "RemoveContainer", w.runtime.RemoveContainer(t.Context(), container))
			_, err := w.runtime.ContainerStatus(t.Context(), container, false)
			return wantCode(err, codes.NotFound)
		}),
		"ListContainers": of(func(t *testing.T, pod, container string) error {
			list, err := w.runtime.ListContainers(t.Context(), &cri.ContainerFilter{PodSandboxId: pod})
			return one(err, list, func(item *cri.Container) string { return item.Id }, container)
		}),
		"ContainerStatus": of(func(t *testing.T, _, container string) error {
			answer, err := w.runtime.ContainerStatus(t.Context(), container, true)
			if err == nil && (answer.Status.State != cri.ContainerState_CONTAINER_RUNNING || answer.Status.StartedAt == 0 || len(answer.Info) == 0) {
				err = fmt.Errorf("%v", answer)
			}
			return err
		}),
		"UpdateContainerResources": of(func(t *testing.T, _, container string) error {
			err := w.runtime.UpdateContainerResources(t.Context(), container, &cri.ContainerResources{
				Linux: &cri.LinuxContainerResources{MemoryLimitInBytes: 96 << 20},
			})
			if err != nil {
				return err
			}
			answer, err := w.runtime.ContainerStatus(t.Context(), container, false)
			if limit := answer.GetStatus().GetResources().GetLinux().GetMemoryLimitInBytes(); err == nil && limit != 96<<20 {
				err = fmt.Errorf("the limit is %d", limit)
			}
			return err
		}),
		"UpdatePodSandboxResources": of(func(t *testing.T, pod, _ string) error {
			_, err := w.runtime.UpdatePodSandboxResources(t.Context(), &cri.UpdatePodSandboxResourcesRequest{
				PodSandboxId: pod, Resources: &cri.LinuxContainerResources{CpuShares: 200},
			})
			return err
		}),
		"ReopenContainerLog": of(func(t *testing.T, _, container string) error {
			return w.runtime.ReopenContainerLog(t.Context(), container)
		}),
		"ExecSync": of(func(t *testing.T, _, container string) error {
			stdout, _, err := w.runtime.ExecSync(t.Context(), container, []string{"probe", "echo", "hello"}, time.Minute)
			if err == nil && strings.TrimSpace(string(stdout)) != "hello" {
				err = fmt.Errorf("it said %q", stdout)
			}
			return err
		}),
		"Exec": of(func(t *testing.T, _, container string) error {
			answer, err := w.runtime.Exec(t.Context(), &cri.ExecRequest{ContainerId: container, Cmd: []string{"probe"}, Stdout: true})
			return hasURL(err, answer.GetUrl())
		}),
		"Attach": of(func(t *testing.T, _, container string) error {
			answer, err := w.runtime.Attach(t.Context(), &cri.AttachRequest{ContainerId: container, Stdout: true})
			return hasURL(err, answer.GetUrl())
		}),
		"PortForward": of(func(t *testing.T, pod, _ string) error {
			answer, err := w.runtime.PortForward(t.Context(), &cri.PortForwardRequest{PodSandboxId: pod, Port: []int32{80}})
			return hasURL(err, answer.GetUrl())
		}),
		"ContainerStats": of(func(t *testing.T, _, container string) error {
			stats, err := w.runtime.ContainerStats(t.Context(), container)
			if err == nil && (stats.Attributes.Id != container || stats.Cpu.Timestamp == 0 || stats.Memory.WorkingSetBytes.GetValue() == 0) {
				err = fmt.Errorf("%v", stats)
			}
			return err
		}),
		"ListContainerStats": of(func(t *testing.T, _, container string) error {
			list, err := w.runtime.ListContainerStats(t.Context(), &cri.ContainerStatsFilter{Id: container})
			return one(err, list, func(item *cri.ContainerStats) string { return item.Attributes.Id }, container)
		}),
		"PodSandboxStats": of(func(t *testing.T, pod, _ string) error {
			stats, err := w.runtime.PodSandboxStats(t.Context(), pod)
			if err == nil && (stats.Attributes.Id != pod || len(stats.Linux.Containers) != 1) {
				err = fmt.Errorf("%v", stats)
			}
			return err
		}),
		"ListPodSandboxStats": of(func(t *testing.T, pod, _ string) error {
			list, err := w.runtime.ListPodSandboxStats(t.Context(), &cri.PodSandboxStatsFilter{Id: pod})
			return one(err, list, func(item *cri.PodSandboxStats) string { return item.Attributes.Id }, pod)
		}),
		"ListMetricDescriptors": func(t *testing.T) error { _, err := w.descriptors(t); return err },
		"ListPodSandboxMetrics": w.metricsOf,
		"CheckpointContainer": of(func(t *testing.T, _, container string) error {
			return w.runtime.CheckpointContainer(t.Context(), &cri.CheckpointContainerRequest{ContainerId: container, Location: filepath.Join(w.place.Disk, "checkpoint")})
		}),
		"GetContainerEvents": w.events,
		"ImageFsInfo": func(t *testing.T) error {
			answer, err := w.images.ImageFsInfo(t.Context())
			if err == nil && (len(answer.ImageFilesystems) == 0 || answer.ImageFilesystems[0].FsId.GetMountpoint() == "") {
				err = fmt.Errorf("%v", answer)
			}
			return err
		},
		"PullImage": func(t *testing.T) error {
			id, err := w.images.PullImage(t.Context(), &cri.ImageSpec{Image: w.image}, nil, nil)
			if err == nil && id == "" {
				err = errors.New("no id")
			}
			return err
		},
		"ImageStatus": func(t *testing.T) error {
			answer, err := w.images.ImageStatus(t.Context(), &cri.ImageSpec{Image: w.image}, true)
			if err == nil && (answer.Image == nil || !slices.Contains(answer.Image.RepoTags, w.image) || len(answer.Info) == 0) {
				err = fmt.Errorf("%v", answer)
			}
			return err
		},
		"ListImages": func(t *testing.T) error {
			list, err := w.images.ListImages(t.Context(), &cri.ImageFilter{Image: &cri.ImageSpec{Image: w.image}})
			if err == nil && len(list) != 1 {
				err = fmt.Errorf("%d images", len(list))
			}
			return err
		},
		"RemoveImage": func(t *testing.T) error {
			fine(t, "RemoveImage", w.images.RemoveImage(t.Context(), &cri.ImageSpec{Image: w.image}))
			answer, err := w.images.ImageStatus(t.Context(), &cri.ImageSpec{Image: w.image}, false)
			if err == nil && answer.Image != nil {
				err = fmt.Errorf("%v", answer)
			}
			_, pulled := w.images.PullImage(t.Context(), &cri.ImageSpec{Image: w.image}, nil, nil)
			return errors.Join(err, pulled)
		},
	}
	for _, method := range methods() {
		if strings.HasPrefix(method.name, "Stream") {
			calls[method.name] = streamed(method.name)
		}
	}
	return calls
}

// events follows a pod through its life.
func (w *wire) events(t *testing.T) error {
	t.Helper()
	context, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events := make(chan *cri.ContainerEventResponse, 100)
	ended := make(chan error, 1)
	established := make(chan struct{})
	go func() {
		ended <- w.runtime.GetContainerEvents(context, events, func(cri.RuntimeService_GetContainerEventsClient) { close(established) })
	}()
	select {
	case <-established:
	case err := <-ended:
		return err
	}
	pod, _, container := w.running(t)
	fine(t, "StopContainer", w.runtime.StopContainer(t.Context(), container, 10))
	w.remove(t, pod)
	seen := map[string][]string{}
	for {
		select {
		case event := <-events:
			if event.ContainerId == pod || event.ContainerId == container {
				kind := strings.TrimSuffix(strings.TrimPrefix(event.ContainerEventType.String(), "CONTAINER_"), "_EVENT")
				seen[event.ContainerId] = append(seen[event.ContainerId], kind)
				if kind == "DELETED" && event.ContainerId == pod {
					want := []string{"CREATED", "STARTED", "STOPPED", "DELETED"}
					if !slices.Equal(seen[pod], want) || !slices.Equal(seen[container], want) {
						return fmt.Errorf("of the pod %v, of the container %v", seen[pod], seen[container])
					}
					return nil
				}
			}
		case err := <-ended:
			return err
		}
	}
}

// stream calls an RPC that answers in parts, as the kubelet does where CRIListStreaming is on, and reads to the end.
func (w *wire) stream(t *testing.T, name string) error {
	t.Helper()
	all := methods()
	method := all[slices.IndexFunc(all, func(method method) bool { return method.name == name })]
	// What the parts say is looked at by the client's own calls, below; here it counts that there are some, and an end.
	stream, err := w.connection.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, method.path, grpc.ForceCodec(rawCodec{}))
	if err == nil {
		err = errors.Join(stream.SendMsg(rawBytes(nil)), stream.CloseSend())
	}
	parts := 0
	for err == nil {
		if err = stream.RecvMsg(&struct{}{}); err == nil {
			parts++
		}
	}
	if !errors.Is(err, io.EOF) || parts == 0 {
		return fmt.Errorf("%d parts, then %w", parts, err)
	}
	pods, err := w.streaming.ListPodSandbox(t.Context(), nil)
	containers, err2 := w.streaming.ListContainers(t.Context(), nil)
	if err := errors.Join(err, err2); err != nil || len(pods) == 0 || len(containers) == 0 {
		return fmt.Errorf("%d pods, %d containers, %w", len(pods), len(containers), err)
	}
	return nil
}

func good[T any](value T, err error) func(t *testing.T, what string) T {
	return func(t *testing.T, what string) T {
		t.Helper()
		fine(t, what, err)
		return value
	}
}

func fine(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func wantCode(err error, want ...codes.Code) error {
	if code := grpcstatus.Code(err); !slices.Contains(want, code) {
		return fmt.Errorf("%s and not %v: %v", code, want, err)
	}
	return nil
}

// one is an error unless the list has just this id.
func one[T any](err error, list []T, id func(T) string, want string) error {
	if err != nil {
		return err
	}
	if len(list) != 1 || id(list[0]) != want {
		return fmt.Errorf("%d items, not just %s: %v", len(list), want, list)
	}
	return nil
}

func hasURL(err error, url string) error {
	if err == nil && !strings.HasPrefix(url, "http://127.0.0.1:") {
		err = fmt.Errorf("the address is %q", url)
	}
	return err
}
