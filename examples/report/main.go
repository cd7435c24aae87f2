// Report reads a file of measurements that the pod mounts, one "name value" a line, and writes a summary of each name
// into another mount: how often it was measured, its smallest, mean and largest value.
//
//	report INPUT OUTPUT
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

type summary struct {
	count               int
	sum, least, largest float64
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: report INPUT OUTPUT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(input, output string) error {
	file, err := os.Open(input)
	if err != nil {
		return err
	}
	defer file.Close()
	summaries, err := read(file)
	if err != nil {
		return fmt.Errorf("%s: %w", input, err)
	}
	text := format(summaries)
	if err := os.WriteFile(output, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Printf("%d names summarised into %s\n%s", len(summaries), output, text)
	return nil
}

func read(from io.Reader) (map[string]*summary, error) {
	summaries := map[string]*summary{}
	lines := bufio.NewScanner(from)
	for number := 1; lines.Scan(); number++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 {
			return nil, fmt.Errorf("line %d: want a name and a value", number)
		}
		value, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		one := summaries[fields[0]]
		if one == nil {
			one = &summary{least: value, largest: value}
			summaries[fields[0]] = one
		}
		one.count++
		one.sum += value
		one.least = min(one.least, value)
		one.largest = max(one.largest, value)
	}
	return summaries, lines.Err()
}

func format(summaries map[string]*summary) string {
	names := make([]string, 0, len(summaries))
	for name := range summaries {
		names = append(names, name)
	}
	slices.Sort(names)
	var text strings.Builder
	for _, name := range names {
		one := summaries[name]
		fmt.Fprintf(&text, "%s: %d values, %g to %g, mean %.2f\n", name, one.count, one.least, one.largest, one.sum/float64(one.count))
	}
	return text.String()
}
