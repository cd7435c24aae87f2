// A web server of WASI 0.1: Go's own, on every socket that it is handed, as Go programs for wasip1 find them.
//
//	GET /            what it is called, on which socket
//	POST /echo       the body
//	POST /digest     length and SHA-256 of the body
//	GET /slow        an answer after ?ms= milliseconds
//	GET /large       ?bytes= bytes, each that of its place
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	count, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "http-go: no sockets:", err)
		os.Exit(1)
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	ended := make(chan error)
	for index := range count {
		file := os.NewFile(uintptr(3+index), names[index])
		listener, err := net.FileListener(file)
		if err != nil {
			fmt.Fprintln(os.Stderr, "http-go:", err)
			os.Exit(1)
		}
		server := &http.Server{Handler: handler(names[index])}
		go func() { ended <- server.Serve(listener) }()
	}
	fmt.Println("ready")
	fmt.Fprintln(os.Stderr, "http-go:", <-ended)
	os.Exit(1)
}

func handler(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		hostname, _ := os.ReadFile("/etc/hostname")
		fmt.Fprintf(w, "%s of %s\n", name, strings.TrimSpace(string(hostname)))
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("POST /digest", func(w http.ResponseWriter, r *http.Request) {
		digest := sha256.New()
		length, err := io.Copy(digest, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%d %x\n", length, digest.Sum(nil))
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		wait, _ := strconv.Atoi(r.URL.Query().Get("ms"))
		time.Sleep(time.Duration(wait) * time.Millisecond)
		fmt.Fprintln(w, "slow")
	})
	mux.HandleFunc("GET /large", func(w http.ResponseWriter, r *http.Request) {
		left, _ := strconv.Atoi(r.URL.Query().Get("bytes"))
		w.Header().Set("Content-Length", strconv.Itoa(left))
		bytes := make([]byte, 256)
		for index := range bytes {
			bytes[index] = byte(index)
		}
		for ; left > 0; left -= len(bytes) {
			if _, err := w.Write(bytes[:min(left, len(bytes))]); err != nil {
				return
			}
		}
	})
	return mux
}
