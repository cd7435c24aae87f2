package conformance

import (
	"strings"
	"testing"
	"time"

	"conformance/harness"
)

// Sessions and the daemon's own end: pods do not notice it, sessions do.

func TestSessionsAreThereAgainAfterTheDaemonWasKilled(t *testing.T) {
	t.Parallel()
	node := startInside(t)
	lines := node.run(t, harness.Container{Name: "lines", Args: []string{"lines", "0", "20", "50"}})
	input := node.run(t, harness.Container{Name: "input", Args: []string{"stdin"}, Stdin: true, StdinOnce: true})
	terminal := node.run(t, harness.Container{Name: "terminal", Args: []string{"stdin"}, Stdin: true, TTY: true})
	node.run(t, harness.Container{Name: "server", Command: []string{"sockets", "serve", "80"}})

	harness.Step(t, "sessions end with the daemon, and so do commands", func(t *testing.T) {
		sessions := []*client{
			startClient(t, node.crictl.Command(t.Context(), "attach", lines)),
			startClient(t, node.crictl.Command(t.Context(), "exec", lines, "probe", "lines", "0", "20", "50")),
		}
		for _, session := range sessions {
			harness.Until(t, 10*time.Second, "output", func() error { return wants(session.stdout.String(), "line ") })
		}
		node.guestsAre(t, 5)
		node.daemon.Kill()
		for _, session := range sessions {
			select {
			case <-session.ended:
			case <-time.After(patience):
				t.Error("a session goes on")
			}
		}
		node.daemon.Start(t)
		node.guestsAre(t, 4)
	})
	harness.Step(t, "a container's output is there again", func(t *testing.T) {
		session := startClient(t, node.crictl.Command(t.Context(), "attach", lines))
		harness.Until(t, 10*time.Second, "output", func() error { return wants(session.stdout.String(), "line ") })
		session.kill()
		if err := linesFollow(session.stdout.String()); err != nil {
			t.Error(err)
		}
	})
	harness.Step(t, "its input is there again, to its end", func(t *testing.T) {
		got := node.session(t, strings.NewReader("Moin\n"), "attach", "-i", input)
		node.wanted(t, got, done{stdout: "Moin\nread 5 bytes\n"}, "a container's own input")
		node.ended(t, input, 0)
	})
	harness.Step(t, "its terminal is there again", func(t *testing.T) {
		window := harness.StartInTerminal(t, node.crictl.Command(t.Context(), "attach", "-it", terminal), 93, 27)
		harness.Until(t, 10*time.Second, "its size", func() error {
			return wants(strings.Join(node.daemon.TerminalSizes(), " "), "93x27")
		})
		window.Type(t, "again\r")
		window.Shows(t, "again\r\nagain\r\n")
		window.Type(t, "\x04")
		window.Shows(t, "read 6 bytes")
		if err := window.Wait(t); err != nil {
			t.Errorf("%v: %q", err, window.Shown())
		}
		node.ended(t, terminal, 0)
	})
	harness.Step(t, "commands run again, and ports are forwarded", func(t *testing.T) {
		node.wanted(t, node.session(t, nil, "exec", lines, "probe", "partial", "hello"), done{stdout: "hello"}, "a command")
		forward := node.forward(t, "spdy", 80)
		if err := echoed(forward.address, noise(t, 100_000)); err != nil {
			t.Error(err)
		}
		forward.stop(t)
	})
	node.finish(t)
}
