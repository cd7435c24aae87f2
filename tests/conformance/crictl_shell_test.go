package conformance

import (
	"testing"

	"conformance/harness"
)

// A person at a shell in a container: the toolbox, its image as people get it.

func TestAShellInAContainerServesAPerson(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			node := startInside(t)
			node.image = node.registry.PushToolbox(t, node.environment, node.place, "inside/tools:v1")
			node.crictl.Run(t, "pull", node.image.Reference)
			id := node.run(t, harness.Container{Name: "tools", Command: []string{"sleep", "infinity"}})
			prompt := func(directory string) string { return "@inside-" + node.place.Name + ":" + directory + " # " }

			harness.Step(t, "a script's output is the same as of any other shell", func(t *testing.T) {
				for script, want := range map[string]done{
					"echo $(seq 3 | tr '\n' -) $0":           {stdout: "1-2-3- sh\n"},
					"ls /etc/passwd /none; exit $((40 + 2))": {stdout: "/etc/passwd\n", stderr: "/none: No such file or directory", code: 1},
					"cat; echo end":                          {stdout: "end\n"},
					"yes | head -n 2":                        {stdout: "y\ny\n"},
				} {
					node.wanted(t, node.session(t, nil, "exec", "--transport", transport, id, "sh", "-c", script), want, script)
				}
			})
			shell := harness.StartInTerminal(t, node.crictl.Command(t.Context(), "exec", "-it", "--transport", transport, id, "sh"), 100, 30)
			harness.Step(t, "the prompt says where one is", func(t *testing.T) {
				shell.Shows(t, "root"+prompt("/"))
				shell.Answers(t, "cd /tmp\r", prompt("/tmp"))
			})
			harness.Step(t, "lines are edited, remembered and completed", func(t *testing.T) {
				shell.Answers(t, "echo twx\x7fo\r", "\r\ntwo\r\n", prompt("/tmp"))
				shell.Answers(t, "\x1b[A\r", "\r\ntwo\r\n", prompt("/tmp"))
				shell.Answers(t, "cat /etc/host\tname\r", "\r\ninside-"+node.place.Name+"\r\n", prompt("/tmp"))
			})
			harness.Step(t, "^C ends a command and not the shell, ^D ends a command's input", func(t *testing.T) {
				shell.Answers(t, "echo begins; sleep infinity\r", "\r\nbegins\r\n")
				shell.Answers(t, "\x03", prompt("/tmp"))
				shell.Answers(t, "echo code $?\r", "\r\ncode 130\r\n", prompt("/tmp"))
				shell.Answers(t, "echo begins; cat; echo ended\r", "\r\nbegins\r\n")
				shell.Answers(t, "typed\r", "\ntyped\r\n")
				shell.Answers(t, "\x04", "ended\r\n", prompt("/tmp"))
			})
			harness.Step(t, "its exit code is that of the session", func(t *testing.T) {
				shell.Type(t, "exit 5\r")
				if err := shell.Wait(t); err == nil {
					t.Error("the session ended well")
				}
				shell.Shows(t, "exit code 5")
			})
			node.guestsAre(t, 1)
			node.finish(t)
		})
	}
}
