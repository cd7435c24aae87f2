package conformance

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"conformance/harness"
)

// A container's own streams by crictl attach.

func TestCrictlAttachJoinsAContainer(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			node := startInside(t)
			attached := func(arguments ...string) []string {
				return append([]string{"attach", "--transport", transport}, arguments...)
			}
			harness.Step(t, "several see its output, and it does not notice", func(t *testing.T) {
				id := node.run(t, harness.Container{Name: "lines", Args: []string{"lines", "0", "20", "50"}})
				var clients []*client
				for range 3 {
					clients = append(clients, startClient(t, node.crictl.Command(t.Context(), attached(id)...)))
				}
				for _, client := range clients {
					harness.Until(t, 10*time.Second, "output", func() error { return wants(client.stdout.String(), "line ") })
				}
				for _, client := range clients {
					client.kill()
				}
				// Whole lines, one after the other, from some line on.
				for _, client := range clients {
					if err := linesFollow(client.stdout.String()); err != nil {
						t.Error(err)
					}
				}
				node.stops(t, id)
			})
			harness.Step(t, "stderr comes as stderr, and the session ends with the container", func(t *testing.T) {
				id := node.run(t, harness.Container{Name: "both", Args: []string{"stdin", "+", "both", "3"}, Stdin: true, StdinOnce: true})
				got := node.session(t, strings.NewReader("go\n"), attached("-i", id)...)
				node.wanted(t, got, done{stdout: "go\nread 3 bytes\nout 1\nout 2\nout 3\n", stderr: "err 1\nerr 2\nerr 3\n"}, "both outputs")
				node.ended(t, id, 0)
				output := node.crictl.Run(t, "logs", id)
				if err := wants(output, "go", "read 3 bytes", "out 3"); err != nil {
					t.Errorf("its log: %v", err)
				}
			})
			harness.Step(t, "20 MB come through both ways unharmed", func(t *testing.T) {
				// Lines, as the container's log is made of them as well.
				line := append(bytes.Repeat([]byte("0123456789abcdef"), 250), '\n')
				sent := bytes.Repeat(line, much/len(line))
				id := node.run(t, harness.Container{Name: "much", Args: []string{"stdin"}, Stdin: true, StdinOnce: true})
				got := node.session(t, bytes.NewReader(sent), attached("-i", id)...)
				want := append(sent, fmt.Sprintf("read %d bytes\n", len(sent))...)
				if err := same([]byte(got.stdout), want); err != nil || got.code != 0 {
					t.Errorf("%v; code %d, stderr %q", err, got.code, got.stderr)
				}
				node.ended(t, id, 0)
			})
			harness.Step(t, "input stays open for the next one, unless it is for once", func(t *testing.T) {
				id := node.run(t, harness.Container{Name: "twice", Args: []string{"stdin"}, Stdin: true})
				for _, word := range []string{"first", "second"} {
					reader, writer := io.Pipe()
					command := node.crictl.Command(t.Context(), attached("-i", id)...)
					command.Stdin = reader
					client := startClient(t, command)
					_, _ = io.WriteString(writer, word+"\n")
					harness.Until(t, 10*time.Second, "its echo", func() error { return wants(client.stdout.String(), word+"\n") })
					_ = writer.Close()
					client.kill()
				}
				node.runs(t, id)
				node.stops(t, id)
			})
			harness.Step(t, "a container without input gets none", func(t *testing.T) {
				id := node.run(t, harness.Container{Name: "none", Args: []string{"stdin", "+", "lines", "0", "20", "50"}})
				command := node.crictl.Command(t.Context(), attached("-i", id)...)
				command.Stdin = strings.NewReader("not wanted\n")
				client := startClient(t, command)
				harness.Until(t, 10*time.Second, "output or an error", func() error { return wants(client.stdout.String()+client.stderr.String(), "i") })
				client.kill()
				if strings.Contains(node.crictl.Run(t, "logs", id), "not wanted") {
					t.Error("the guest has read what the client sent")
				}
				node.runs(t, id)
				node.stops(t, id)
			})
			harness.Step(t, "a terminal is shared, and has the size of who came last", func(t *testing.T) {
				id := node.run(t, harness.Container{Name: "terminal", Args: []string{"stdin"}, Stdin: true, TTY: true})
				start := func(columns, rows int) *harness.Terminal {
					return harness.StartInTerminal(t, node.crictl.Command(t.Context(), attached("-it", id)...), columns, rows)
				}
				first := start(90, 20)
				first.Type(t, "one\r")
				first.Shows(t, "one\r\none\r\n")
				second := start(110, 40)
				harness.Until(t, 10*time.Second, "the second one's size", func() error {
					return wants(strings.Join(node.daemon.TerminalSizes(), " "), "110x40")
				})
				second.Type(t, "two\r")
				first.Shows(t, "two\r\ntwo\r\n")
				second.Shows(t, "two\r\ntwo\r\n")
				second.Type(t, "\x04")
				first.Shows(t, "read 8 bytes")
				for _, terminal := range []*harness.Terminal{first, second} {
					if err := terminal.Wait(t); err != nil {
						t.Errorf("%v: %q", err, terminal.Shown())
					}
				}
				node.ended(t, id, 0)
			})
			harness.Step(t, "what does not run cannot be joined", func(t *testing.T) {
				id := node.run(t, harness.Container{Name: "over", Args: []string{"echo", "over"}})
				node.ended(t, id, 0)
				got := node.session(t, nil, attached(id)...)
				if err := wants(got.stderr, "not Running"); err != nil || got.code == 0 {
					t.Errorf("code %d, %v", got.code, err)
				}
			})
			node.guestsAre(t, 0)
			node.finish(t)
		})
	}
}

// linesFollow is an error unless these are whole lines of the probe's command lines, without a gap.
func linesFollow(text string) error {
	last := 0
	lines := strings.SplitAfter(text, "\n")
	for _, line := range lines[:len(lines)-1] {
		var number int
		if _, err := fmt.Sscanf(line, "line %d", &number); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		if last != 0 && number != last+1 {
			return fmt.Errorf("line %d follows line %d", number, last)
		}
		last = number
	}
	if last == 0 {
		return fmt.Errorf("no line in %q", text)
	}
	return nil
}
