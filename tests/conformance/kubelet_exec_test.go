package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/klog/v2"

	"conformance/harness"
)

// What people do with kubectl exec, attach, port-forward and cp, through a kubelet's own server and with kubectl's own code.

// What client-go says beside the errors that it returns: of no use, as sessions are ended here and ports refused on purpose.
func init() { klog.SetLogger(klog.Logger{}) }

const looked = `apiVersion: v1
kind: Pod
metadata: {name: looked, namespace: default}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - {name: main, image: %[1]s, volumeMounts: [{name: tools, mountPath: /tools}]}
  - {name: lines, image: %[1]s, args: [lines, "0", "20", "50"]}
  - {name: server, image: %[1]s, command: [sockets, serve, "80"]}
  - {name: websocket, image: %[1]s, args: [stdin], stdin: true, stdinOnce: true}
  - {name: spdy, image: %[1]s, args: [stdin], stdin: true, stdinOnce: true}
  - {name: terminal, image: %[1]s, args: [stdin], stdin: true, tty: true}
  - {name: tools, image: %[2]s, command: [sleep, infinity]}
  volumes: [{name: tools, image: {reference: %[2]s}}]
`

func TestAKubeletServesExecAttachAndPortForward(t *testing.T) {
	t.Parallel()
	node, kubelet := startNode(t)
	tools := node.registry.PushToolbox(t, node.environment, node.place, "inside/tools:v1")
	kubelet.Run(t, "looked", fmt.Sprintf(looked, node.image.Reference, tools.Reference))
	pod := allRun(t, kubelet, "looked")
	containers := len(pod.Spec.Containers)

	for _, transport := range harness.Transports {
		execute := func(stdin io.Reader, container string, command ...string) done {
			return stream(t, kubelet, harness.Stream{Transport: transport, Pod: pod, Container: container, Command: command, Stdin: stdin})
		}
		harness.Step(t, "exec over "+transport+" tells outputs and exit code", func(t *testing.T) {
			node.wanted(t, execute(nil, "main", "probe", "echo", "out", "+", "err", "problem"), done{stdout: "out\n", stderr: "problem\n"}, "both outputs")
			node.wanted(t, execute(nil, "main", "probe", "echo", "before", "+", "exit", "7"), done{stdout: "before\n", code: 7}, "exit code 7")
			node.wanted(t, execute(nil, "main", "nosuch"), done{stderr: `exec: "nosuch": executable file not found in $PATH`, code: 127}, "a command that is not there")
		})
		harness.Step(t, "exec over "+transport+" gives the input to its end, 20 MB unharmed both ways", func(t *testing.T) {
			node.wanted(t, execute(strings.NewReader("Moin"), "main", "probe", "stdin"), done{stdout: "Moin\nread 4 bytes\n"}, "input")
			sent := append(noise(t, much-1), '\n')
			got := execute(bytes.NewReader(sent), "main", "probe", "stdin")
			if err := same([]byte(got.stdout), append(sent, fmt.Sprintf("read %d bytes\n", much)...)); err != nil || got.code != 0 {
				t.Errorf("%v; code %d, stderr %q", err, got.code, got.stderr)
			}
		})
		harness.Step(t, "exec over "+transport+" gives a terminal that follows the window", func(t *testing.T) {
			keys, typed := io.Pipe()
			sizes := newSizes()
			shown := &harness.Shown{}
			ended := make(chan error, 1)
			deadline, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			go func() {
				ended <- kubelet.Stream(deadline, harness.Stream{Transport: transport, Pod: pod, Container: "main",
					Command: []string{"probe", "stdin", "+", "exit", "3"}, Stdin: keys, Stdout: shown, Sizes: sizes})
			}()
			for _, size := range []remotecommand.TerminalSize{{Width: 97, Height: 31}, {Width: 131, Height: 53}} {
				sizes.become(size)
				harness.Until(t, 10*time.Second, "the size", func() error {
					return wants(strings.Join(node.daemon.TerminalSizes(), " "), fmt.Sprintf("%dx%d", size.Width, size.Height))
				})
			}
			_, _ = io.WriteString(typed, "echoed\r")
			harness.Until(t, 10*time.Second, "its echo", func() error { return wants(shown.String(), "echoed\r\nechoed\r\n") })
			_, _ = io.WriteString(typed, "\x04")
			code, is := errors.AsType[utilexec.CodeExitError](<-ended)
			if !is || code.Code != 3 || !strings.Contains(shown.String(), "read 7 bytes\r\n") {
				t.Errorf("it ended with %v, having shown %q", code, shown.String())
			}
			_ = typed.Close()
			sizes.close()
		})
		harness.Step(t, "attach over "+transport+" shows what a container writes, and gives it its input", func(t *testing.T) {
			shown := &harness.Shown{}
			context, leave := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- kubelet.Stream(context, harness.Stream{Transport: transport, Pod: pod, Container: "lines", Stdout: shown, Stderr: shown})
			}()
			harness.Until(t, 10*time.Second, "lines", func() error { return wants(shown.String(), "line ") })
			leave()
			<-ended
			if err := linesFollow(shown.String()); err != nil {
				t.Error(err)
			}
			// Its input is for once: the container ends with it, and is started again.
			got := stream(t, kubelet, harness.Stream{Transport: transport, Pod: pod, Container: strings.ToLower(transport), Stdin: strings.NewReader("Moin\n")})
			node.wanted(t, got, done{stdout: "Moin\nread 5 bytes\n"}, "a container's own input")
		})
		harness.Step(t, "attach over "+transport+" joins a container's terminal", func(t *testing.T) {
			keys, typed := io.Pipe()
			sizes := newSizes()
			shown := &harness.Shown{}
			context, leave := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- kubelet.Stream(context, harness.Stream{Transport: transport, Pod: pod, Container: "terminal", Stdin: keys, Stdout: shown, Sizes: sizes})
			}()
			sizes.become(remotecommand.TerminalSize{Width: 91, Height: 29})
			harness.Until(t, 10*time.Second, "the size", func() error { return wants(strings.Join(node.daemon.TerminalSizes(), " "), "91x29") })
			_, _ = io.WriteString(typed, "by "+transport+"\r")
			harness.Until(t, 10*time.Second, "its echo", func() error {
				return wants(shown.String(), fmt.Sprintf("by %[1]s\r\nby %[1]s\r\n", transport))
			})
			leave()
			<-ended
			_ = typed.Close()
			sizes.close()
		})
		harness.Step(t, "port-forward over "+transport+" reaches a guest", func(t *testing.T) {
			forwarding := kubelet.Forward(t, transport, pod, 80)
			if err := echoed(forwarding.Address, noise(t, much)); err != nil {
				t.Error(err)
			}
			if err := echoed(forwarding.Address, []byte("once more")); err != nil {
				t.Error(err)
			}
			forwarding.Stop()
			if err := forwarding.Wait(t); err != nil {
				t.Error(err)
			}
			// The client's library ends the whole session at the first error of a connection.
			forwarding = kubelet.Forward(t, transport, pod, 81)
			if err := echoed(forwarding.Address, []byte("nobody")); err == nil {
				t.Error("something answers on a port where nobody listens")
			}
			if err := forwarding.Wait(t); !errors.Is(err, portforward.ErrLostConnectionToPod) {
				t.Errorf("it ended with %v", err)
			}
		})
		harness.Step(t, "exec over "+transport+" runs the tools of an image volume in a container without any", func(t *testing.T) {
			script := "echo from $0; ls /bin; cat /etc/hostname; touch /tools/x"
			node.wanted(t, execute(nil, "main", "/tools/bin/sh", "-c", script), done{
				stdout: "from /tools/bin/sh\nprobe\nsockets\n" + pod.Name + "\n",
				stderr: "touch: /tools/x: Read-only file system\n", code: 1,
			}, script)
		})
		harness.Step(t, "kubectl cp's commands over "+transport+" copy a directory to and fro", func(t *testing.T) {
			copies(t, kubelet, pod, transport)
		})
	}
	harness.Step(t, "commands are gone", func(t *testing.T) { node.guestsAre(t, containers) })
	finishNode(t, node, kubelet, "looked")
}

// copies does what kubectl cp does, with the tar of this machine in kubectl's place.
func copies(t *testing.T, kubelet *harness.Kubelet, pod core.Pod, transport string) {
	t.Helper()
	from, to := t.TempDir(), t.TempDir()
	files := map[string][]byte{"copied/large": noise(t, 5_000_000), "copied/empty": {}, "copied/deep/er/text": []byte("text\n")}
	for name, content := range files {
		path := filepath.Join(from, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	execute := func(stdin io.Reader, command ...string) done {
		return stream(t, kubelet, harness.Stream{Transport: transport, Pod: pod, Container: "tools", Command: command, Stdin: stdin})
	}
	target := "/tmp/" + transport
	if got := execute(nil, "mkdir", target); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if got := execute(bytes.NewReader(tarOf(t, from)), "tar", "-xmf", "-", "-C", target); got.code != 0 || got.stdout+got.stderr != "" {
		t.Fatalf("unpacking in the pod: %+v", shortened(got))
	}
	got := execute(nil, "tar", "cf", "-", target+"/copied")
	if got.code != 0 {
		t.Fatalf("packing in the pod: %+v", shortened(got))
	}
	untar(t, []byte(got.stdout), to)
	for name, content := range files {
		back, err := os.ReadFile(filepath.Join(to, target, name))
		if err != nil {
			t.Error(err)
		} else if err := same(back, content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// How kubectl cp goes on after a connection that broke.
	whole := len(got.stdout)
	tail := execute(nil, "sh", "-c", fmt.Sprintf("tar cf - %s/copied | tail -c+%d", target, whole-1000))
	if err := same([]byte(tail.stdout), []byte(got.stdout[whole-1001:])); err != nil || tail.code != 0 {
		t.Errorf("the rest of an archive: %v; %+v", err, shortened(tail))
	}
}

// stream runs a session to its end. Its outputs are asked for, unless it has a terminal.
func stream(t *testing.T, kubelet *harness.Kubelet, session harness.Stream) done {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	session.Stdout, session.Stderr = &stdout, &stderr
	err := kubelet.Stream(deadline, session)
	ended := done{stdout.String(), stderr.String(), 0}
	if code, is := errors.AsType[utilexec.CodeExitError](err); is {
		ended.code = code.Code
	} else if err != nil {
		t.Fatalf("%v in %s: %v; %+v", session.Command, session.Container, err, shortened(ended))
	}
	return ended
}

// sizes are those of a window that somebody drags at.
type sizes struct {
	queue chan remotecommand.TerminalSize
}

func newSizes() sizes { return sizes{make(chan remotecommand.TerminalSize, 4)} }

func (s sizes) become(size remotecommand.TerminalSize) { s.queue <- size }
func (s sizes) close()                                 { close(s.queue) }

// Next waits for the next size; none comes after the window is closed.
func (s sizes) Next() *remotecommand.TerminalSize {
	size, more := <-s.queue
	if !more {
		return nil
	}
	return &size
}

// tarOf packs what is in a directory, as this machine's own tar does.
func tarOf(t *testing.T, directory string) []byte {
	t.Helper()
	archive, err := exec.Command("tar", "-C", directory, "-cf", "-", ".").Output()
	if err != nil {
		t.Fatalf("tar: %v", err)
	}
	return archive
}

// untar unpacks an archive with this machine's own tar, which must have nothing to complain of.
func untar(t *testing.T, archive []byte, directory string) {
	t.Helper()
	command := exec.Command("tar", "-C", directory, "-xf", "-")
	command.Stdin = bytes.NewReader(archive)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, output)
	}
}
