package conformance

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"conformance/harness"
)

// Objects of a cluster as a guest finds them through wasi:config, wasi:keyvalue and wasi:logging (docs/interfaces.md).

// %[1]s answers HTTP requests with what the interfaces say, %[2]s is the same as a command.
const ofInterfaces = `apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue, GREETING: from the ConfigMap}
---
apiVersion: v1
kind: Secret
metadata: {name: own}
stringData: {token: not for everybody}
---
apiVersion: v1
kind: Pod
metadata: {name: shop}
spec:
  nodeName: node
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 5
  initContainers:
  - name: fill
    image: %[2]s
    args: [kv, carts, count, filled, "41"]
    env: [{name: CRI_WASM_KEYVALUE_CARTS, value: "dir:/data/carts"}]
    volumeMounts: [{name: carts, mountPath: /data/carts}]
  containers:
  - name: web
    image: %[1]s
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {path: /config/color, port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
    env:
    - {name: GREETING, value: from the manifest}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: own, key: token}}}
    - {name: CRI_WASM_KEYVALUE_CARTS, value: "dir:/data/carts"}
    - {name: CRI_WASM_KEYVALUE_SECRETS, value: "dir:/secrets"}
    - {name: CRI_WASM_LOG_LEVEL, value: info}
    volumeMounts:
    - {name: settings, mountPath: /etc/config}
    - {name: own, mountPath: /secrets, readOnly: true}
    - {name: carts, mountPath: /data/carts}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: own, secret: {secretName: own}}
  - {name: carts, emptyDir: {}}
`

func TestAClusterGivesAServiceItsConfigMapsSecretsAndVolumes(t *testing.T) {
	if os.Getenv(ownNetwork) == "" {
		t.Parallel()
		inOwnNetwork(t)
		return
	}
	nodeNetwork(t)
	guests := []string{"interfaces.p2", "interfaces-web.p2"}
	environment := harness.Need(t, []string{"kubelet", "kubectl", "cluster", "docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, guests)
	place := harness.NewPlace(t)
	cluster := clusterOfExamples{harness.StartCluster(t, environment, place)}
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	daemon := harness.StartDaemon(t, environment, place, network)
	command := registry.PushArtifact(t, "interfaces/command", "v1", environment.Guest("interfaces.p2"))
	service := registry.PushArtifact(t, "interfaces/service", "v1", environment.Guest("interfaces-web.p2"))
	kubelet := harness.StartKubelet(t, environment, place, daemon, harness.KubeletOptions{Cluster: cluster.Cluster, Node: "node", Address: nodeAddress})

	harness.Until(t, time.Minute, "the node registers", func() error {
		var node core.Node
		return cluster.JSON(&node, "get", "node", "node")
	})
	var pod core.Pod
	harness.Step(t, "a pod of a service runs", func(t *testing.T) {
		cluster.Do(t, fmt.Sprintf(ofInterfaces, service.Reference, command.Reference), "apply", "-f", "-")
		pod = cluster.ready(t, "shop")
	})
	says := func(t *testing.T, path, wanted string) {
		t.Helper()
		if got := ask(t, http.MethodGet, pod.Status.PodIP, "8080", path, ""); got != wanted {
			t.Errorf("%s says %q, not %q", path, got, wanted)
		}
	}
	harness.Step(t, "it has its ConfigMap, its environment, its Secrets and what another container has left", func(t *testing.T) {
		says(t, "/config/color", "blue")
		says(t, "/config/GREETING", "from the manifest")
		says(t, "/config/TOKEN", "not for everybody")
		says(t, "/kv/secrets/get/token", "not for everybody")
		says(t, "/kv/secrets/keys", "token")
		says(t, "/kv/carts/count/filled/1", "42")
		says(t, "/kv/default/count/hits/1", "1")
		says(t, "/kv/default/count/hits/1", "2")
	})
	harness.Step(t, "what it logs is in its log", func(t *testing.T) {
		for _, level := range []string{"debug", "info", "error"} {
			says(t, "/log/"+level+"/shop/text", "logged")
		}
		cluster.says(t, "shop", "web", "INFO shop: text", "ERROR shop: text")
		if text := cluster.Do(t, "", "logs", "shop"); strings.Contains(text, "DEBUG") {
			t.Errorf("%q has what is below the level", text)
		}
	})
	harness.Step(t, "a ConfigMap that changes is seen by the service that runs", func(t *testing.T) {
		cluster.Do(t, "", "patch", "configmap", "settings", "--patch", `{"data": {"color": "red"}}`)
		// The kubelet looks at a pod's volumes when something of the pod changes, else every minute or so.
		cluster.Do(t, "", "annotate", "pod", "shop", "looked-at=now")
		harness.Until(t, 3*time.Minute, "the color is red", func() error {
			return wants(ask(t, http.MethodGet, pod.Status.PodIP, "8080", "/config/color", ""), "red")
		})
		if now := cluster.ready(t, "shop"); now.UID != pod.UID {
			t.Error("it is another pod")
		}
	})
	harness.Step(t, "it goes", func(t *testing.T) {
		cluster.Do(t, "", "delete", "pod", "shop", "--wait", "--timeout", "50s")
	})
	clearNode(t, kubelet, daemon, network)
}
