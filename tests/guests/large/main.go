// Large is a real program of about 5.8 MB, for the bench of the first start of a module of that size: it reads some
// JSON, fills a template with it, and prints the result's digest after its first line.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"text/template"
)

type measurement struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

const input = `[{"name": "attic", "value": 27.75}, {"name": "cellar", "value": 11.25}, {"name": "kitchen", "value": 21}]`

var page = template.Must(template.New("page").Parse("{{range .}}{{.Name}}: {{.Value}}\n{{end}}"))

func main() {
	fmt.Println("hello")
	text, err := render()
	if err != nil {
		fmt.Fprintln(os.Stderr, "large:", err)
		os.Exit(1)
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	log.Info("rendered", "bytes", len(text), "sha256", fmt.Sprintf("%x", sha256.Sum256(text)))
}

func render() ([]byte, error) {
	var all []measurement
	if err := json.Unmarshal([]byte(input), &all); err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := page.Execute(&text, all); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}
