package harness

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Cluster is a real kube-apiserver on a loopback port, with etcd behind it. Without RunControllers nothing else of a cluster is
// there: pods name their node.
type Cluster struct {
	// Kubeconfig is a file by which everything may be done in it.
	Kubeconfig string

	environment Environment
	place       Place
}

// StartCluster starts one and waits until it serves.
func StartCluster(t *testing.T, environment Environment, place Place) *Cluster {
	t.Helper()
	directory := filepath.Join(place.Disk, "cluster")
	// etcd forgets nothing that a test remembers; it need not lie on a disk.
	store := filepath.Join(place.Memory, "cluster")
	for _, path := range []string{directory, store} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	key := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	keyFile := place.Write(t, "cluster/service-account.pem",
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	token := rand.Text()
	port := FreePort(t)
	cluster := &Cluster{environment: environment, place: place, Kubeconfig: place.Write(t, "cluster/kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: "https://127.0.0.1:%d", insecure-skip-tls-verify: true}}]
users: [{name: test, user: {token: %s}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
`, port, token))}
	process := StartProcess(t, filepath.Join(place.Disk, "cluster.log"), nil, environment.Tool("cluster"), store,
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port), "--cert-dir="+directory,
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		"--token-auth-file="+place.Write(t, "cluster/tokens", token+",test,test,system:masters\n"), "--authorization-mode=AlwaysAllow",
		"--service-account-issuer=https://test", "--service-account-key-file="+keyFile, "--service-account-signing-key-file="+keyFile,
		"--service-cluster-ip-range=10.96.0.0/24", "--allow-privileged",
		"--kubelet-preferred-address-types=InternalIP",
		// Nobody makes service accounts here.
		"--disable-admission-plugins=ServiceAccount",
	)
	Until(t, 120*time.Second, "the cluster answers", func() error {
		if err := process.Alive(); err != nil {
			t.Fatal(err)
		}
		_, err := cluster.Kubectl("get", "namespace", "default")
		return err
	})
	return cluster
}

// RunControllers starts kube-scheduler, and kube-controller-manager with the controllers of what the examples use: so pods find a
// node, Deployments and Jobs get their pods, and Services the addresses of theirs.
func (c *Cluster) RunControllers(t *testing.T) {
	t.Helper()
	for name, arguments := range map[string][]string{
		"scheduler": nil,
		"controller-manager": {
			// By the names that it has for them. node-lifecycle makes a node ready for pods.
			"--controllers=deployment-controller,replicaset-controller,job-controller,endpointslice-controller,node-lifecycle-controller," +
				"garbage-collector-controller",
		},
	} {
		arguments = append([]string{name, "--kubeconfig=" + c.Kubeconfig, "--leader-elect=false", "--secure-port=0"}, arguments...)
		StartProcess(t, filepath.Join(c.place.Disk, name+".log"), nil, c.environment.Tool("cluster"), arguments...)
	}
}

// Command is a command of kubectl that has not been started.
func (c *Cluster) Command(context context.Context, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(context, c.environment.Tool("kubectl"), append([]string{"--kubeconfig", c.Kubeconfig}, arguments...)...)
	// Its caches would go there.
	command.Env = append(os.Environ(), "HOME="+filepath.Dir(c.Kubeconfig))
	return command
}

// Kubectl runs a command and returns what it printed; its error has what it complained about.
func (c *Cluster) Kubectl(arguments ...string) (string, error) {
	return c.KubectlWith("", arguments...)
}

// KubectlWith runs a command with this as its input.
func (c *Cluster) KubectlWith(input string, arguments ...string) (string, error) {
	deadline, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	command := c.Command(deadline, arguments...)
	command.Stdin = strings.NewReader(input)
	var stdout, stderr strings.Builder
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Do runs a command that must succeed.
func (c *Cluster) Do(t *testing.T, input string, arguments ...string) string {
	t.Helper()
	return must(c.KubectlWith(input, arguments...))(t)
}

// JSON reads what a command prints with -o json.
func (c *Cluster) JSON(into any, arguments ...string) error {
	output, err := c.Kubectl(append(arguments, "-o", "json")...)
	if err == nil {
		err = json.Unmarshal([]byte(output), into)
	}
	return err
}
