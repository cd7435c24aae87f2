package conformance

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"conformance/harness"
)

// Commands in a container by crictl exec: at once, over both transports, and in a terminal.

func TestCrictlExecSyncTellsOutputAndExitCode(t *testing.T) {
	t.Parallel()
	node := startInside(t)
	id := node.run(t, harness.Container{Name: "main"})
	exec := func(arguments ...string) done {
		ended := node.session(t, nil, append([]string{"exec", "-s"}, arguments...)...)
		// crictl shows the outputs with empty lines between and after them.
		ended.stdout = strings.TrimRight(ended.stdout, "\n")
		return ended
	}
	node.wanted(t, exec(id, "probe", "partial", "hello"), done{stdout: "hello"}, "a command's output")
	node.wanted(t, exec(id, "named", "args", "a b"), done{stdout: "0: named\n1: args\n2: a b"}, "a link keeps its name")
	both := exec(id, "probe", "echo", "out", "+", "err", "problem")
	if err := wants(both.stdout+both.stderr, "out", "problem"); err != nil || both.code != 0 {
		t.Errorf("both outputs: %+v, %v", both, err)
	}
	// crictl's own exit code is 1 whatever the command's is; its text has it.
	node.wanted(t, exec(id, "probe", "exit", "7"), done{stderr: "exited with 7", code: 1}, "an exit code")
	node.wanted(t, exec(id, "nosuch"), done{stderr: "exited with 127", code: 1}, "a command that is not there")
	node.wanted(t, exec(id, "/tmp"), done{stderr: "exited with 126", code: 1}, "a directory as a command")
	node.wanted(t, exec("--timeout", "1", id, "probe", "sleep", "forever"), done{stderr: "timed out after 1s", code: 1}, "a command that takes too long")
	node.guestsAre(t, 1)
	node.wanted(t, exec("0123456789abcdef", "probe"), done{stderr: "0123456789abcdef", code: 1}, "a container that is not there")
	node.finish(t)
}

func TestCrictlExecRunsCommands(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			node := startInside(t)
			id := node.run(t, harness.Container{Name: "main"})
			exec := func(stdin []byte, arguments ...string) done {
				arguments = append([]string{"exec", "--transport", transport}, arguments...)
				if stdin == nil {
					return node.session(t, nil, arguments...)
				}
				return node.session(t, bytes.NewReader(stdin), arguments...)
			}
			harness.Step(t, "its outputs come separately and whole", func(t *testing.T) {
				node.wanted(t, exec(nil, id, "probe", "partial", "hello"), done{stdout: "hello"}, "output")
				node.wanted(t, exec(nil, id, "probe", "echo", "out", "+", "err", "problem"), done{stdout: "out\n", stderr: "problem\n"}, "both outputs")
				var lines strings.Builder
				for line := range 2000 {
					fmt.Fprintf(&lines, "line %d\n", line+1)
				}
				node.wanted(t, exec(nil, id, "probe", "lines", "2000"), done{stdout: lines.String()}, "many lines")
			})
			harness.Step(t, "its exit code is told", func(t *testing.T) {
				node.wanted(t, exec(nil, id, "probe", "echo", "before", "+", "exit", "7"),
					done{stdout: "before\n", stderr: "command terminated with exit code 7", code: 1}, "exit code 7")
				node.wanted(t, exec(nil, id, "probe", "exit", "137"), done{stderr: "command terminated with exit code 137", code: 1}, "exit code 137")
				trapped := exec(nil, id, "probe", "trap")
				node.wanted(t, trapped, done{stderr: "command terminated with exit code 134", code: 1}, "a trap")
				if err := wants(trapped.stderr, "outer", "middle", "inner"); err != nil {
					t.Errorf("the backtrace of a trap: %v", err)
				}
				for command, code := range map[string]int{"nosuch": 127, "/tmp": 126} {
					got := exec(nil, id, command)
					node.wanted(t, got, done{stderr: fmt.Sprintf("command terminated with exit code %d", code), code: 1}, command)
					if err := wants(got.stderr, fmt.Sprintf("exec: %q: ", command)); err != nil {
						t.Error(err)
					}
				}
			})
			harness.Step(t, "its input comes to its end", func(t *testing.T) {
				node.wanted(t, exec([]byte("Moin"), "-i", id, "probe", "stdin"), done{stdout: "Moin\nread 4 bytes\n"}, "input")
				node.wanted(t, exec([]byte{}, "-i", id, "probe", "stdin"), done{stdout: "read 0 bytes\n"}, "empty input")
				node.wanted(t, exec(nil, id, "probe", "stdin"), done{stdout: "read 0 bytes\n"}, "no input")
			})
			harness.Step(t, "20 MB come through both ways unharmed", func(t *testing.T) {
				sent := append(noise(t, much-1), '\n')
				got := exec(sent, "-i", id, "probe", "stdin")
				want := append(sent, fmt.Sprintf("read %d bytes\n", much)...)
				if err := same([]byte(got.stdout), want); err != nil || got.code != 0 {
					t.Errorf("%v; code %d, stderr %q", err, got.code, got.stderr)
				}
			})
			harness.Step(t, "20 MB come out unharmed, several commands at once", func(t *testing.T) {
				const length, lines = 100_000, 200
				results := make(chan done, 3)
				for range cap(results) {
					go func() { results <- exec(nil, id, "probe", "lines", fmt.Sprint(lines), fmt.Sprint(length)) }()
				}
				for range cap(results) {
					got := <-results
					if err := linesFollow(got.stdout); err != nil || got.code != 0 || strings.Count(got.stdout, "\n") != lines || len(got.stdout) < lines*length {
						t.Errorf("%v: %+v", err, shortened(got))
					}
				}
			})
			harness.Step(t, "a command ends with its client", func(t *testing.T) {
				client := node.crictl.Command(t.Context(), "exec", "--transport", transport, id, "probe", "lines", "0", "20", "50")
				output := &harness.Shown{}
				client.Stdout = output
				if err := client.Start(); err != nil {
					t.Fatal(err)
				}
				harness.Until(t, 10*time.Second, "its output", func() error { return wants(output.String(), "line 3") })
				node.guestsAre(t, 2)
				_ = client.Process.Kill()
				_ = client.Wait()
				node.guestsAre(t, 1)
			})
			node.finish(t)
		})
	}
}

func TestCrictlExecGivesACommandATerminal(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			node := startInside(t)
			id := node.run(t, harness.Container{Name: "main"})
			start := func(t *testing.T, arguments ...string) *harness.Terminal {
				t.Helper()
				arguments = append([]string{"exec", "-it", "--transport", transport, id}, arguments...)
				return harness.StartInTerminal(t, node.crictl.Command(t.Context(), arguments...), 100, 30)
			}
			harness.Step(t, "which is one to the guest", func(t *testing.T) {
				terminal := start(t, "probe", "tty")
				if err := terminal.Wait(t); err != nil {
					t.Errorf("%v: %q", err, terminal.Shown())
				}
				// The terminal's driver ends lines with both characters.
				terminal.Shows(t, "stdin terminal\r\nstdout terminal\r\nstderr terminal\r\n")
			})
			harness.Step(t, "has the window's size, also when that changes", func(t *testing.T) {
				terminal := start(t, "probe", "stdin")
				sizeIs := func(want string) {
					harness.Until(t, 10*time.Second, "the size "+want, func() error {
						if sizes := node.daemon.TerminalSizes(); len(sizes) != 1 || sizes[0] != want {
							return fmt.Errorf("terminals of guests: %v", sizes)
						}
						return nil
					})
				}
				sizeIs("100x30")
				terminal.Resize(t, 132, 43)
				sizeIs("132x43")
				terminal.Type(t, "echoed\r")
				terminal.Shows(t, "echoed\r\nechoed\r\n")
				terminal.Type(t, "\x04")
				terminal.Shows(t, "read 7 bytes")
				if err := terminal.Wait(t); err != nil {
					t.Errorf("%v: %q", err, terminal.Shown())
				}
			})
			harness.Step(t, "ends the command at ^C", func(t *testing.T) {
				terminal := start(t, "probe", "echo", "ready", "+", "sleep", "forever")
				terminal.Shows(t, "ready")
				terminal.Type(t, "\x03")
				if err := terminal.Wait(t); err == nil {
					t.Error("the command ended well")
				}
				terminal.Shows(t, "exit code 130")
			})
			harness.Step(t, "tells the exit code", func(t *testing.T) {
				terminal := start(t, "probe", "exit", "7")
				if err := terminal.Wait(t); err == nil {
					t.Error("the command ended well")
				}
				terminal.Shows(t, "exit code 7")
			})
			node.guestsAre(t, 1)
			node.finish(t)
		})
	}
}
