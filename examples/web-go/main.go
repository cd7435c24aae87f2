// A service in Go: net/http over a socket that the runtime has opened on the port that the container declares. Go has no listening
// sockets of its own in WASI.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

// Where the first of the container's sockets is.
const firstSocket = 3

func main() {
	listener, err := net.FileListener(os.NewFile(firstSocket, "socket"))
	if err != nil {
		log.Fatalf("no socket to listen on: %v; does the container declare a port?", err)
	}
	http.HandleFunc("GET /{$}", func(response http.ResponseWriter, _ *http.Request) {
		// os.Hostname has nothing to ask in WASI.
		name := os.Getenv("HOSTNAME")
		if name == "" {
			name = "a pod"
		}
		fmt.Fprintf(response, "Hello from Go in %s\n", name)
	})
	http.HandleFunc("/healthz", func(response http.ResponseWriter, _ *http.Request) { fmt.Fprintln(response, "ok") })
	http.HandleFunc("/echo", func(response http.ResponseWriter, request *http.Request) {
		// All of it first: once Go has begun to answer by HTTP/1.1, it reads no more.
		body, err := io.ReadAll(request.Body)
		if err == nil {
			_, _ = response.Write(body)
		}
	})
	log.Fatal(http.Serve(listener, nil))
}
