// Command cluster is what a kubelet needs of a cluster. The part that it talks to, etcd and kube-apiserver, is one process:
//
//	cluster DIRECTORY [ARGUMENTS OF kube-apiserver]
//	cluster controller-manager [ARGUMENTS OF kube-controller-manager]
//	cluster scheduler [ARGUMENTS OF kube-scheduler]
//
// etcd keeps its data in the directory, which becomes the working directory, and answers on a socket in it. Both end with the
// process.
package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: cluster DIRECTORY|controller-manager|scheduler [ARGUMENTS]")
		os.Exit(2)
	}
	switch os.Args[1] {
	case "controller-manager":
		command := controllers.NewControllerManagerCommand()
		command.SetArgs(os.Args[2:])
		os.Exit(cli.Run(command))
	case "scheduler":
		command := scheduler.NewSchedulerCommand()
		command.SetArgs(os.Args[2:])
		os.Exit(cli.Run(command))
	}
	endpoint, err := startStore(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster: etcd:", err)
		os.Exit(1)
	}
	command := app.NewAPIServerCommand()
	command.SetArgs(append([]string{"--etcd-servers=" + endpoint}, os.Args[2:]...))
	os.Exit(cli.Run(command))
}

// startStore starts etcd for one reader and no peers, and waits until it answers.
func startStore(directory string) (string, error) {
	configuration := embed.NewConfig()
	configuration.Dir = filepath.Join(directory, "etcd")
	configuration.LogLevel = "error"
	// It is gone with its test: nothing has to outlive a power cut.
	configuration.UnsafeNoFsync = true
	// To etcd the address of a socket is a host and a port, which are the file's name in the working directory.
	if err := os.Chdir(directory); err != nil {
		return "", err
	}
	clients, peers := []url.URL{{Scheme: "unix", Host: "clients:1"}}, []url.URL{{Scheme: "unix", Host: "peers:1"}}
	configuration.ListenClientUrls, configuration.AdvertiseClientUrls = clients, clients
	configuration.ListenPeerUrls, configuration.AdvertisePeerUrls = peers, peers
	configuration.InitialCluster = configuration.InitialClusterFromName(configuration.Name)
	etcd, err := embed.StartEtcd(configuration)
	if err != nil {
		return "", err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return clients[0].String(), nil
	case err := <-etcd.Err():
		return "", err
	case <-time.After(time.Minute):
		return "", fmt.Errorf("not ready within a minute")
	}
}
