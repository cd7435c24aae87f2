package harness

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a program that a test has started and that it ends.
type Process struct {
	command *exec.Cmd
	ended   chan struct{}
	// Log is the file with everything that the program has written.
	Log string
}

// StartProcess starts a program in a process group of its own, its output going to a file, and ends it with the test.
func StartProcess(t *testing.T, log string, environment []string, program string, arguments ...string) *Process {
	t.Helper()
	process := start(t, log, environment, program, arguments...)
	t.Cleanup(func() { process.end(t) })
	return process
}

// end stops the program when its test ends, and shows its last words if the test has failed.
func (p *Process) end(t *testing.T) {
	t.Helper()
	p.Stop(t)
	if t.Failed() {
		t.Logf("the end of %s:\n%s", p.Log, tail(p.Log, 15))
	}
}

func start(t *testing.T, log string, environment []string, program string, arguments ...string) *Process {
	t.Helper()
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = output.Close() }()
	command := exec.Command(program, arguments...)
	command.Stdout, command.Stderr = output, output
	command.Env = append(os.Environ(), environment...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		t.Fatalf("starting %s: %v", program, err)
	}
	process := &Process{command: command, ended: make(chan struct{}), Log: log}
	go func() {
		_ = command.Wait()
		close(process.ended)
	}()
	return process
}

// PID is the number of the process.
func (p *Process) PID() int { return p.command.Process.Pid }

// Ended says whether the program has ended, for whatever reason.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Alive is an error that shows the end of the log if the program has ended.
func (p *Process) Alive() error {
	if p.Ended() {
		return errors.New(p.command.Path + " has ended (" + p.command.ProcessState.String() + "):\n" + tail(p.Log, 20))
	}
	return nil
}

// Kill sends SIGKILL to this one process, and waits.
func (p *Process) Kill() {
	_ = p.command.Process.Kill()
	<-p.ended
}

// Stop sends SIGTERM and waits; a program that is still there after 20 seconds is killed, which fails the test.
func (p *Process) Stop(t *testing.T) {
	t.Helper()
	if p.Ended() {
		return
	}
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		t.Errorf("%s did not end within 20 s of SIGTERM", p.command.Path)
		p.Kill()
	}
}

func tail(path string, count int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	if len(lines) > count {
		lines = lines[len(lines)-count:]
	}
	return strings.Join(lines, "\n")
}
