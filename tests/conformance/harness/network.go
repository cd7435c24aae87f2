package harness

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// conflist is the name of the configuration's file.
const conflist = "10-bridge.conflist"

// Network is a CNI configuration of the test's own: a bridge, addresses of a range that nobody here uses, host ports.
type Network struct {
	// Configuration is the directory with the conflist.
	Configuration string
	// Bridge is the interface that the plugin makes on the node.
	Bridge string
	// Range is where pods get their addresses from.
	Range *net.IPNet
	// addresses is where the plugin host-local keeps what it has given away.
	addresses string
}

// NewNetwork writes the configuration. The bridge goes when the test ends.
func NewNetwork(t *testing.T, place Place) Network {
	t.Helper()
	network := Network{
		Configuration: filepath.Join(place.Disk, "cni-conf"),
		Bridge:        place.Name,
		Range:         freeRange(t),
		addresses:     filepath.Join(place.Disk, "cni-addresses"),
	}
	place.Write(t, filepath.Join("cni-conf", conflist), fmt.Sprintf(`{
  "cniVersion": "1.1.0",
  "name": %q,
  "plugins": [
    {
      "type": "bridge", "bridge": %q, "isGateway": true, "ipMasq": false,
      "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, place.Name, network.Bridge, network.addresses, network.Range.String()))
	t.Cleanup(func() {
		if _, err := net.InterfaceByName(network.Bridge); err == nil {
			if output, err := exec.Command("ip", "link", "delete", network.Bridge).CombinedOutput(); err != nil {
				t.Errorf("removing the bridge: %v: %s", err, output)
			}
		}
	})
	return network
}

// Older writes the configuration in a version that containerd 1.6 knows.
func (n Network) Older(t *testing.T) {
	t.Helper()
	path := filepath.Join(n.Configuration, conflist)
	older := strings.ReplaceAll(string(read(t, path)), `"cniVersion": "1.1.0"`, `"cniVersion": "1.0.0"`)
	if err := os.WriteFile(path, []byte(older), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Leftovers lists addresses that are still given away and interfaces that still hang on the bridge.
func (n Network) Leftovers() []string {
	var left []string
	entries, _ := os.ReadDir(filepath.Join(n.addresses, n.Bridge))
	for _, entry := range entries {
		if net.ParseIP(entry.Name()) != nil {
			left = append(left, "address "+entry.Name())
		}
	}
	ports, _ := os.ReadDir(filepath.Join("/sys/class/net", n.Bridge, "brif"))
	for _, port := range ports {
		left = append(left, "interface "+port.Name()+" on "+n.Bridge)
	}
	return left
}

// freeRange is a /24 of 10.0.0.0/8 that no interface of the node has an address in.
func freeRange(t *testing.T) *net.IPNet {
	t.Helper()
	used, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 2)
	for range 100 {
		if _, err := rand.Read(random); err != nil {
			t.Fatal(err)
		}
		_, candidate, err := net.ParseCIDR(fmt.Sprintf("10.%d.%d.0/24", random[0], random[1]))
		if err != nil {
			t.Fatal(err)
		}
		if !overlaps(used, candidate) {
			return candidate
		}
	}
	t.Fatal("no free range of addresses in 10.0.0.0/8")
	return nil
}

func overlaps(used []net.Addr, candidate *net.IPNet) bool {
	for _, address := range used {
		ip, network, err := net.ParseCIDR(address.String())
		if err == nil && !strings.Contains(ip.String(), ":") && (candidate.Contains(ip) || network.Contains(candidate.IP)) {
			return true
		}
	}
	return false
}
