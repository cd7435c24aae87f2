package harness

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a pseudo terminal as a person's terminal emulator has it, with a program in it.
type Terminal struct {
	master *os.File
	ended  chan error
	shown  Shown
}

// StartInTerminal starts a program whose controlling terminal is a new one, of so many columns and rows. It is killed
// when the test ends.
func StartInTerminal(t *testing.T, command *exec.Cmd, columns, rows int) *Terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	terminal := &Terminal{master: master, ended: make(chan error, 1)}
	terminal.Resize(t, columns, rows)
	slave := terminal.slave(t)
	defer func() { _ = slave.Close() }()
	command.Stdin, command.Stdout, command.Stderr = slave, slave, slave
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := command.Start(); err != nil {
		t.Fatalf("starting %s: %v", command.Path, err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	go func() {
		// A terminal that nobody has open any more is EIO for its other end.
		_, _ = io.Copy(&terminal.shown, master)
		terminal.ended <- command.Wait()
	}()
	return terminal
}

func (t *Terminal) slave(test *testing.T) *os.File {
	test.Helper()
	descriptor := int(t.master.Fd())
	if err := unix.IoctlSetPointerInt(descriptor, unix.TIOCSPTLCK, 0); err != nil {
		test.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(descriptor, unix.TIOCGPTN)
	if err != nil {
		test.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		test.Fatal(err)
	}
	return slave
}

// Shown is all that the terminal has shown, as it came.
func (t *Terminal) Shown() string { return t.shown.String() }

// Type presses keys.
func (t *Terminal) Type(test *testing.T, keys string) {
	test.Helper()
	if _, err := t.master.WriteString(keys); err != nil {
		test.Fatalf("typing %q: %v", keys, err)
	}
}

// Resize changes the window, of which the program is told.
func (t *Terminal) Resize(test *testing.T, columns, rows int) {
	test.Helper()
	size := &unix.Winsize{Col: uint16(columns), Row: uint16(rows)}
	if err := unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size); err != nil {
		test.Fatal(err)
	}
}

// Shows waits until all of these are shown.
func (t *Terminal) Shows(test *testing.T, parts ...string) {
	test.Helper()
	Until(test, 20*time.Second, "the terminal shows it", func() error {
		shown := t.Shown()
		for _, part := range parts {
			if !strings.Contains(shown, part) {
				return fmt.Errorf("%q is not in %q", part, shown)
			}
		}
		return nil
	})
}

// Answers presses keys and waits until all of these are shown after them.
func (t *Terminal) Answers(test *testing.T, keys string, parts ...string) {
	test.Helper()
	before := len(t.Shown())
	t.Type(test, keys)
	Until(test, 20*time.Second, "the terminal answers", func() error {
		shown := t.Shown()[before:]
		for _, part := range parts {
			if !strings.Contains(shown, part) {
				return fmt.Errorf("%q is not in %q, which is the answer to %q", part, shown, keys)
			}
		}
		return nil
	})
}

// Wait waits until the program has ended, and returns its failure.
func (t *Terminal) Wait(test *testing.T) error {
	test.Helper()
	select {
	case err := <-t.ended:
		return err
	case <-time.After(20 * time.Second):
		test.Fatalf("the program in the terminal does not end; shown so far: %q", t.Shown())
		return nil
	}
}

// TerminalSizes are columns and rows of the terminals that guests of the daemon have, one for each guest with one.
func (d *Daemon) TerminalSizes() []string {
	var sizes []string
	for _, process := range d.Processes() {
		descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", process.PID))
		for _, path := range descriptors {
			if size, is := terminalSize(path); is {
				sizes = append(sizes, size)
				break
			}
		}
	}
	return sizes
}

// terminalSize is that of the terminal behind another process's descriptor, if it is one.
func terminalSize(path string) (string, bool) {
	target, err := os.Readlink(path)
	if err != nil || !strings.Contains(target, "pts/") || strings.HasSuffix(target, "ptmx") {
		return "", false
	}
	terminal, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", false
	}
	defer func() { _ = terminal.Close() }()
	size, err := unix.IoctlGetWinsize(int(terminal.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return "", false
	}
	return fmt.Sprintf("%dx%d", size.Col, size.Row), true
}
