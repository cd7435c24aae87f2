package conformance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What nobody sane sends. Whatever comes back must say whose fault it is: a code of these, never that something broke
// inside, and never nothing at all.
var blamesTheCaller = []codes.Code{
	codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.AlreadyExists, codes.Unimplemented,
	codes.OutOfRange, codes.ResourceExhausted,
}

// method is one RPC.
type method struct {
	name, path string
	request    protoreflect.MessageDescriptor
	streams    bool
}

// methods are all RPCs of both services.
func methods() []method {
	var all []method
	services := cri.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto.Services()
	for i := range services.Len() {
		for j := range services.Get(i).Methods().Len() {
			descriptor := services.Get(i).Methods().Get(j)
			all = append(all, method{
				name:    string(descriptor.Name()),
				path:    fmt.Sprintf("/%s/%s", services.Get(i).FullName(), descriptor.Name()),
				request: descriptor.Input(),
				streams: descriptor.IsStreamingServer(),
			})
		}
	}
	return all
}

// bytes are sent as they are, in the place of a message.
type rawBytes []byte

// rawCodec sends bytes, and takes whatever comes.
type rawCodec struct{}

func (rawCodec) Marshal(value any) ([]byte, error) { return value.(rawBytes), nil }
func (rawCodec) Unmarshal([]byte, any) error       { return nil }
func (rawCodec) Name() string                      { return "proto" }

// raw calls a method with bytes that may be no message, and waits for the first answer.
func (w *wire) raw(t *testing.T, method method, request []byte) error {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !method.streams {
		return w.connection.Invoke(deadline, method.path, rawBytes(request), &struct{}{}, grpc.ForceCodec(rawCodec{}))
	}
	stream, err := w.connection.NewStream(deadline, &grpc.StreamDesc{ServerStreams: true}, method.path, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		return err
	}
	return errors.Join(stream.SendMsg(rawBytes(request)), stream.CloseSend(), stream.RecvMsg(&struct{}{}))
}

// withoutArguments calls every method with an empty message.
func (w *wire) withoutArguments(t *testing.T) {
	// Calls that ask for nothing in particular; all others need something.
	answered := []string{
		"Version", "Status", "RuntimeConfig", "UpdateRuntimeConfig", "ListPodSandbox", "ListContainers", "ListContainerStats",
		"ListPodSandboxStats", "ListMetricDescriptors", "ListPodSandboxMetrics", "ListImages", "ImageFsInfo",
	}
	for _, method := range methods() {
		// Streams may be open for ever, or at their end at once.
		if method.streams || notThereYet[method.name] || neverThere[method.name] {
			continue
		}
		want := codes.InvalidArgument
		if slices.Contains(answered, method.name) {
			want = codes.OK
		}
		if err := wantCode(w.raw(t, method, nil), want); err != nil {
			t.Errorf("%s: %v", method.name, err)
		}
	}
}

// noMessages sends every method what is no message of any kind, and strings that are no text.
func (w *wire) noMessages(t *testing.T) {
	for _, bytes := range [][]byte{
		[]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
		// Field 1, whose length is far above what follows.
		[]byte("\x0a\xff\xff\xff\xff\x07a"),
		// Field 1 is two bytes that are no UTF-8: in all requests it is a string, or a message that this is not.
		[]byte("\x0a\x02\xff\xfe"),
	} {
		for _, method := range methods() {
			// Requests without fields ignore what they do not know.
			if method.request.Fields().Len() == 0 || notThereYet[method.name] || neverThere[method.name] {
				continue
			}
			if first := method.request.Fields().ByNumber(1); bytes[0] == 0x0a && (first == nil || first.Kind() != protoreflect.StringKind && first.Kind() != protoreflect.MessageKind) {
				continue
			}
			err := w.raw(t, method, bytes)
			// The library that reads messages says Internal; there is no other word for it.
			if err := wantCode(err, codes.Internal, codes.InvalidArgument); err != nil {
				t.Errorf("%s, %q: %v", method.name, bytes, err)
			}
		}
	}
}

// hostileIDs asks every method that takes an id for ids that cannot be.
func (w *wire) hostileIDs(t *testing.T) {
	pod, podConfig, container := w.running(t)
	defer w.remove(t, pod)
	c := t.Context()
	// forgiving are calls that are fine with what is not there.
	type call struct {
		of        string
		forgiving bool
		do        func(id string) error
	}
	calls := map[string]call{
		"StopPodSandbox":   {"pod", true, func(id string) error { return w.runtime.StopPodSandbox(c, id) }},
		"RemovePodSandbox": {"pod", true, func(id string) error { return w.runtime.RemovePodSandbox(c, id) }},
		"StopContainer":    {"container", true, func(id string) error { return w.runtime.StopContainer(c, id, 1) }},
		"RemoveContainer":  {"container", true, func(id string) error { return w.runtime.RemoveContainer(c, id) }},
		"PodSandboxStatus": {"pod", false, func(id string) error { _, err := w.runtime.PodSandboxStatus(c, id, true); return err }},
		"CreateContainer": {"pod", false, func(id string) error {
			_, err := w.runtime.CreateContainer(c, id, w.containerConfig(), podConfig)
			return err
		}},
		"StartContainer":     {"running container", false, func(id string) error { return w.runtime.StartContainer(c, id) }},
		"ContainerStatus":    {"container", false, func(id string) error { _, err := w.runtime.ContainerStatus(c, id, true); return err }},
		"ReopenContainerLog": {"container", false, func(id string) error { return w.runtime.ReopenContainerLog(c, id) }},
		"ExecSync": {"container", false, func(id string) error {
			_, _, err := w.runtime.ExecSync(c, id, []string{"probe", "pwd"}, time.Minute)
			return err
		}},
		"Exec": {"container", false, func(id string) error {
			_, err := w.runtime.Exec(c, &cri.ExecRequest{ContainerId: id, Cmd: []string{"probe"}, Stdout: true})
			return err
		}},
		"Attach": {"container", false, func(id string) error {
			_, err := w.runtime.Attach(c, &cri.AttachRequest{ContainerId: id, Stdout: true})
			return err
		}},
		"PortForward": {"pod", false, func(id string) error {
			_, err := w.runtime.PortForward(c, &cri.PortForwardRequest{PodSandboxId: id, Port: []int32{1}})
			return err
		}},
		"UpdateContainerResources": {"container", false, func(id string) error {
			return w.runtime.UpdateContainerResources(c, id, &cri.ContainerResources{Linux: &cri.LinuxContainerResources{CpuShares: 100}})
		}},
		"UpdatePodSandboxResources": {"pod", false, func(id string) error {
			_, err := w.runtime.UpdatePodSandboxResources(c, &cri.UpdatePodSandboxResourcesRequest{PodSandboxId: id, Resources: &cri.LinuxContainerResources{CpuShares: 100}})
			return err
		}},
		"ContainerStats":  {"container", false, func(id string) error { _, err := w.runtime.ContainerStats(c, id); return err }},
		"PodSandboxStats": {"pod", false, func(id string) error { _, err := w.runtime.PodSandboxStats(c, id); return err }},
	}
	for _, method := range methods() {
		first := method.request.Fields().ByNumber(1)
		if _, has := calls[method.name]; !has && first != nil && strings.HasSuffix(string(first.Name()), "_id") && !neverThere[method.name] {
			t.Errorf("%s takes an id, and nothing here calls it", method.name)
		}
	}
	unknown := map[string]string{
		"64 zeros": strings.Repeat("0", 64), "1 MiB": strings.Repeat("a", 1<<20), "a path": "../../../../etc/passwd", "a zero byte": "a\x00b",
		"the other kind": "", "blanks": " \t\n", "a format": "%s%n%x", "not ASCII": "🦀é\u202e", "too long by one": "",
	}
	for name, call := range calls {
		if notThereYet[name] {
			continue
		}
		known, other := pod, container
		if call.of != "pod" {
			known, other = container, pod
		}
		unknown["the other kind"], unknown["too long by one"] = other, known+"0"
		for kind, id := range unknown {
			err := call.do(id)
			if call.forgiving && err == nil {
				continue
			}
			if err := wantCode(err, codes.NotFound, codes.InvalidArgument); err != nil {
				t.Errorf("%s with %s: %v", name, kind, err)
			}
		}
		if err := wantCode(call.do(""), codes.InvalidArgument); err != nil {
			t.Errorf("%s with no id: %v", name, err)
		}
		// Go's own library refuses to send it.
		if call.do("\xff\xfe") == nil {
			t.Errorf("%s with what is no UTF-8 was sent", name)
		}
		// A beginning that only one object has stands for it; what takes the object away is left alone.
		if !call.forgiving && call.of != "running container" {
			if err := call.do(known[:32]); err != nil {
				t.Errorf("%s with half of the id: %v", name, err)
			}
		}
	}
	for name, err := range map[string]error{
		"a created container's log": func() error {
			id, err := w.runtime.CreateContainer(c, pod, w.containerConfig(), podConfig)
			if err != nil {
				return err
			}
			return wantCode(w.runtime.ReopenContainerLog(c, id), codes.FailedPrecondition)
		}(),
		"start of what runs":     wantCode(w.runtime.StartContainer(c, container), codes.FailedPrecondition),
		"a stop before its time": w.runtime.StopContainer(c, container, -1),
		"a stop after decades":   w.runtime.StopContainer(c, container, math.MaxInt32),
		"a container of nothing": wantCode(second(w.runtime.CreateContainer(c, pod, nil, nil)), codes.InvalidArgument),
		"a pod of nothing":       wantCode(second(w.runtime.RunPodSandbox(c, nil, "")), codes.InvalidArgument),
		"a handler of nobody":    wantCode(second(w.runtime.RunPodSandbox(c, w.podConfig(), "../../runc")), codes.InvalidArgument, codes.NotFound),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hostileImages asks for images by names that cannot be.
func (w *wire) hostileImages(t *testing.T) {
	c := t.Context()
	for _, name := range []string{
		"", " ", "../../etc/passwd", "UPPER/CASE", "a:b:c:d", "a@sha256:zz", "a@", ":", "/", "http://127.0.0.1/a", strings.Repeat("a", 1<<20),
		"127.0.0.1:1/" + strings.Repeat("a", 300), "a\x00b", "🦀", "-rf", "sha256:" + strings.Repeat("0", 64), strings.Repeat("0", 64), "127.0.0.1:99999/a:b",
	} {
		shown := fmt.Sprintf("%.40q", name)
		image := &cri.ImageSpec{Image: name}
		answer, err := w.images.ImageStatus(c, image, true)
		if err == nil && answer.Image != nil {
			t.Errorf("ImageStatus of %s: %v", shown, answer.Image)
		} else if err := wantCode(err, codes.OK, codes.InvalidArgument); err != nil {
			t.Errorf("ImageStatus of %s: %v", shown, err)
		}
		if err := wantCode(w.images.RemoveImage(c, image), codes.OK, codes.InvalidArgument); err != nil {
			t.Errorf("RemoveImage of %s: %v", shown, err)
		}
		// A registry that is not there is Unknown, since the kubelet shows the text of no other code without its name.
		err = second(w.images.PullImage(c, image, nil, nil))
		unavailable := grpcstatus.Code(err) == codes.Unknown && strings.Contains(err.Error(), "RegistryUnavailable: ")
		if err := wantCode(err, codes.InvalidArgument, codes.NotFound); err != nil && !unavailable {
			t.Errorf("PullImage of %s: %v", shown, err)
		}
		list, err := w.images.ListImages(c, &cri.ImageFilter{Image: image})
		if err := wantCode(err, codes.OK, codes.InvalidArgument); err != nil || name != "" && len(list) > 0 {
			t.Errorf("ListImages of %s: %v, %v", shown, list, err)
		}
	}
	auth := &cri.AuthConfig{Username: strings.Repeat("u", 1<<20), Password: "p\r\nX: y", Auth: "no base64", ServerAddress: "../..", IdentityToken: "\x00"}
	if err := wantCode(second(w.images.PullImage(c, &cri.ImageSpec{Image: w.image}, auth, nil)), append(blamesTheCaller, codes.OK)...); err != nil {
		t.Errorf("PullImage with a hostile secret: %v", err)
	}
}

// hostileStreams asks for commands and streams that cannot be.
func (w *wire) hostileStreams(t *testing.T) {
	pod, _, container := w.running(t)
	defer w.remove(t, pod)
	c := t.Context()
	many := slices.Repeat([]string{"x"}, 100_000)
	for name, command := range map[string][]string{
		"none": nil, "an empty one": {""}, "none there": {"nosuch"}, "a path out": {"../../../../bin/sh"}, "a directory": {"/"},
		"a zero byte": {"probe\x00"}, "1 MiB": {strings.Repeat("a", 1<<20)}, "a long argument": {"probe", "echo", strings.Repeat("a", 1<<20)},
		"100,000 arguments": append([]string{"probe", "echo"}, many...),
	} {
		_, _, err := w.runtime.ExecSync(c, container, command, 30*time.Second)
		var exited interface{ ExitStatus() int }
		if errors.As(err, &exited) {
			continue
		}
		if err := wantCode(err, append(blamesTheCaller, codes.OK)...); err != nil {
			t.Errorf("ExecSync of %s: %v", name, err)
		}
		_, err = w.runtime.Exec(c, &cri.ExecRequest{ContainerId: container, Cmd: command, Stdout: true})
		if err := wantCode(err, append(blamesTheCaller, codes.OK)...); err != nil {
			t.Errorf("Exec of %s: %v", name, err)
		}
	}
	if _, _, err := w.runtime.ExecSync(c, container, []string{"probe", "pwd"}, -time.Second); err != nil && wantCode(err, codes.InvalidArgument) != nil {
		t.Errorf("ExecSync with a time before now: %v", err)
	}
	invalid := map[string]error{
		"Exec of no streams":    second(w.runtime.Exec(c, &cri.ExecRequest{ContainerId: container, Cmd: []string{"probe"}})),
		"Exec of a tty, stderr": second(w.runtime.Exec(c, &cri.ExecRequest{ContainerId: container, Cmd: []string{"probe"}, Tty: true, Stdout: true, Stderr: true})),
		"Attach of no streams":  second(w.runtime.Attach(c, &cri.AttachRequest{ContainerId: container})),
		"Attach of tty, stderr": second(w.runtime.Attach(c, &cri.AttachRequest{ContainerId: container, Tty: true, Stdout: true, Stderr: true})),
	}
	for name, err := range invalid {
		if err := wantCode(err, codes.InvalidArgument); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ports := range [][]int32{{-1}, {0}, {65536}, {math.MinInt32, math.MaxInt32}, slices.Repeat([]int32{1}, 100_000)} {
		_, err := w.runtime.PortForward(c, &cri.PortForwardRequest{PodSandboxId: pod, Port: ports})
		if err := wantCode(err, append(blamesTheCaller, codes.OK)...); err != nil {
			t.Errorf("PortForward of %.20v: %v", ports, err)
		}
	}
}

// hostilePods runs pods with one hostile field each.
func (w *wire) hostilePods(t *testing.T) {
	run := func(config *cri.PodSandboxConfig) error {
		id, err := w.runtime.RunPodSandbox(t.Context(), config, "")
		if err == nil {
			_, err = w.runtime.PodSandboxStatus(t.Context(), id, true)
			w.remove(t, id)
		}
		return err
	}
	mutate(t, func() proto.Message { return w.podConfig() }, func(message proto.Message) error { return run(message.(*cri.PodSandboxConfig)) })
	config := w.podConfig()
	config.Labels, config.Annotations = manyLabels(), manyLabels()
	fine(t, "a pod with 10,000 labels", run(config))
}

// hostileContainers creates and starts containers with one hostile field each.
func (w *wire) hostileContainers(t *testing.T) {
	podConfig := w.podConfig()
	pod := good(w.runtime.RunPodSandbox(t.Context(), podConfig, ""))(t, "RunPodSandbox")
	defer w.remove(t, pod)
	run := func(config *cri.ContainerConfig) error {
		id, err := w.runtime.CreateContainer(t.Context(), pod, config, podConfig)
		if err == nil {
			err = w.runtime.StartContainer(t.Context(), id)
			_, err2 := w.runtime.ContainerStatus(t.Context(), id, true)
			err = errors.Join(err, err2, w.runtime.RemoveContainer(t.Context(), id))
		}
		return err
	}
	mutate(t, func() proto.Message { return w.containerConfig() }, func(message proto.Message) error { return run(message.(*cri.ContainerConfig)) })
	config := w.containerConfig()
	config.Labels, config.Annotations = manyLabels(), manyLabels()
	fine(t, "a container with 10,000 labels", run(config))
}

// hostileUpdates changes a running container's and its pod's limits, one hostile field each.
func (w *wire) hostileUpdates(t *testing.T) {
	pod, _, container := w.running(t)
	defer w.remove(t, pod)
	base := func() proto.Message { return &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20} }
	mutate(t, base, func(message proto.Message) error {
		return w.runtime.UpdateContainerResources(t.Context(), container, &cri.ContainerResources{Linux: message.(*cri.LinuxContainerResources)})
	})
	mutate(t, base, func(message proto.Message) error {
		_, err := w.runtime.UpdatePodSandboxResources(t.Context(), &cri.UpdatePodSandboxResourcesRequest{PodSandboxId: pod, Resources: message.(*cri.LinuxContainerResources)})
		return err
	})
}

func manyLabels() map[string]string {
	labels := map[string]string{}
	for i := range 10_000 {
		labels[fmt.Sprintf("label-%d", i)] = strings.Repeat("v", 60)
	}
	return labels
}

// mutate calls with a good message in which one field is hostile, for each field and each hostile value.
func mutate(t *testing.T, base func() proto.Message, call func(proto.Message) error) {
	t.Helper()
	total, taken := 0, 0
	for _, change := range changes(base().ProtoReflect().Descriptor(), nil, 0) {
		message := base()
		change.apply(message.ProtoReflect())
		started := time.Now()
		err := call(message)
		total++
		if err == nil {
			taken++
			continue
		}
		if !slices.Contains(blamesTheCaller, grpcstatus.Code(err)) {
			t.Errorf("%s: %.600v", change.name, err)
		}
		if len(err.Error()) > 16<<10 {
			t.Errorf("%s: the answer's text has %d bytes", change.name, len(err.Error()))
		}
		if took := time.Since(started); took > 30*time.Second {
			t.Errorf("%s: it took %v", change.name, took)
		}
	}
	t.Logf("%d changes, %d of them taken, the others refused", total, taken)
}

// change makes one field hostile.
type change struct {
	name  string
	apply func(protoreflect.Message)
}

// changes are all of a message and, so deep, of those in it.
func changes(descriptor protoreflect.MessageDescriptor, path []string, depth int) []change {
	var all []change
	for i := range descriptor.Fields().Len() {
		field := descriptor.Fields().Get(i)
		here := append(slices.Clone(path), string(field.Name()))
		name := strings.Join(here, ".")
		add := func(what string, apply func(protoreflect.Message)) {
			all = append(all, change{name + ": " + what, apply})
		}
		switch {
		case field.Name() == "windows" || depth > 6:
		case field.IsMap():
			for what, key := range hostileStrings(here) {
				add("key "+what, func(m protoreflect.Message) {
					m.Mutable(field).Map().Set(protoreflect.ValueOfString(key).MapKey(), protoreflect.ValueOfString("v"))
				})
			}
		case field.IsList() && field.Kind() == protoreflect.MessageKind:
			// An empty one, and one with each of its fields hostile.
			add("an empty item", func(m protoreflect.Message) { m.Mutable(field).List().AppendMutable() })
			for _, inner := range changes(field.Message(), here, depth+1) {
				all = append(all, change{inner.name, func(m protoreflect.Message) {
					inner.apply(m.Mutable(field).List().AppendMutable().Message())
				}})
			}
		case field.Kind() == protoreflect.MessageKind:
			add("empty", func(m protoreflect.Message) { m.Set(field, m.NewField(field)) })
			add("none", func(m protoreflect.Message) { m.Clear(field) })
			for _, inner := range changes(field.Message(), here, depth+1) {
				all = append(all, change{inner.name, func(m protoreflect.Message) { inner.apply(m.Mutable(field).Message()) }})
			}
		default:
			for what, value := range hostileValues(field, here) {
				if field.IsList() {
					add(what, func(m protoreflect.Message) { m.Mutable(field).List().Append(value) })
					continue
				}
				add(what, func(m protoreflect.Message) { m.Set(field, value) })
			}
		}
	}
	return all
}

func hostileValues(field protoreflect.FieldDescriptor, path []string) map[string]protoreflect.Value {
	values := map[string]protoreflect.Value{}
	switch field.Kind() {
	case protoreflect.StringKind:
		for what, text := range hostileStrings(path) {
			values[what] = protoreflect.ValueOfString(text)
		}
	case protoreflect.Int64Kind:
		for _, number := range []int64{0, -1, 1, math.MinInt64, math.MaxInt64} {
			values[fmt.Sprint(number)] = protoreflect.ValueOfInt64(number)
		}
	case protoreflect.Uint64Kind:
		for _, number := range []uint64{0, 1, math.MaxUint64} {
			values[fmt.Sprint(number)] = protoreflect.ValueOfUint64(number)
		}
	case protoreflect.Int32Kind:
		for _, number := range []int32{0, -1, math.MinInt32, math.MaxInt32} {
			values[fmt.Sprint(number)] = protoreflect.ValueOfInt32(number)
		}
	case protoreflect.Uint32Kind:
		for _, number := range []uint32{0, 1, math.MaxUint32} {
			values[fmt.Sprint(number)] = protoreflect.ValueOfUint32(number)
		}
	case protoreflect.EnumKind:
		for _, number := range []int32{0, 1, 2, 3, 4, -1, 99, math.MaxInt32} {
			values[fmt.Sprint(number)] = protoreflect.ValueOfEnum(protoreflect.EnumNumber(number))
		}
	case protoreflect.BoolKind:
		for _, value := range []bool{true, false} {
			values[fmt.Sprint(value)] = protoreflect.ValueOfBool(value)
		}
	}
	return values
}

// strayed is what a path that leads out would leave.
const strayed = "cri-wasm-was-led-astray"

func hostileStrings(path []string) map[string]string {
	texts := map[string]string{
		"empty": "", "1 MiB": strings.Repeat("a", 1<<20), "a way out": "../../../../../../../../../tmp/" + strayed, "a zero byte": "a\x00b",
		"lines": "a\nb: c\r\n\x1b[2J", "not ASCII": "🦀é\u202e", "a slash at its end": "a/", "dots": "..",
	}
	// That is where logs are written, and any directory of the node is as good as another.
	if path[len(path)-1] != "log_directory" {
		texts["the root"] = "/"
	}
	return texts
}

// strays lists what hostile paths have left outside.
func (w *wire) strays() []string {
	var found []string
	for _, pattern := range []string{
		filepath.Join(os.TempDir(), strayed+"*"), "/" + strayed + "*", filepath.Join(w.place.Disk, strayed+"*"), filepath.Join(w.place.Memory, strayed+"*"),
		"/sys/fs/cgroup/*/tmp", "/sys/fs/cgroup/tmp",
	} {
		matches, _ := filepath.Glob(pattern)
		found = append(found, matches...)
	}
	return found
}

func second[T any](_ T, err error) error { return err }
