package conformance

import (
	"fmt"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"conformance/harness"
)

// The images of critest are Linux programs; these stand in their places, under the names that are constants in critest. Each
// has what the specs look at, done by a guest: none of them knows that it is looked at.

// critestImages are the two that critest can be told.
type critestImages struct{ standard, web harness.Pushed }

// mirrored are the registries of the constant names.
var mirrored = []string{"registry.k8s.io", "k8s.gcr.io", "gcr.io"}

// pushCritestImages pushes all of them.
func pushCritestImages(t *testing.T, environment harness.Environment, place harness.Place, registry harness.Registry) critestImages {
	t.Helper()
	toolbox := registry.PushToolbox(t, environment, place, "critest/toolbox:v1")
	// A server of HTTP, and a shell beside it.
	server := func(name string, base *harness.Pushed, port int) harness.Layered {
		return harness.Layered{
			Base:   base,
			Files:  map[string]string{"bin/" + name: environment.Guest("sockets.p2")},
			Config: v1.Config{Entrypoint: []string{"/bin/" + name, "serve", fmt.Sprint(port)}},
		}
	}
	web := server("sockets", nil, 80).Push(t, registry, "critest/web", "v1")
	staging := func(reference string, image harness.Layered) {
		image.Push(t, registry, "k8s-staging-cri-tools/"+reference, "latest")
	}
	staging("hostnet-nginx-amd64", server("sockets", nil, 12003))
	server("httpd", &toolbox, 80).Push(t, registry, "e2e-test-images/httpd", "2.4.39-4")

	// The master process of nginx writes its number down, and stays.
	harness.Layered{
		Base:        &toolbox,
		Files:       map[string]string{"bin/nginx": environment.Guest("toolbox")},
		Texts:       map[string]string{"etc/nginx: master process": "echo $$ >/var/run/nginx.pid\nsleep infinity\n"},
		Directories: []string{"var/run"},
		Config:      v1.Config{Entrypoint: []string{"nginx", "sh", "/etc/nginx: master process"}},
	}.Push(t, registry, "e2e-test-images/nginx", "1.14-2")

	// Says who runs it, by a program whose owner is root and that has the set-user-ID bit.
	harness.Layered{
		Base:   &toolbox,
		SetUID: map[string]string{"nnp": "#!/bin/sh\necho Effective uid: $(id -u)\n"},
		Config: v1.Config{Entrypoint: []string{"/nnp"}},
	}.Push(t, registry, "e2e-test-images/nonewprivs", "1.3")

	// A user of the image in a group of the image.
	staging("test-image-predefined-group", harness.Layered{
		Base: &toolbox,
		Texts: map[string]string{
			"etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndefault-user:x:1000:1000::/home:/bin/sh\n",
			"etc/group":  "root:x:0:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n",
		},
		Config: v1.Config{User: "1000"},
	})

	// Run, and looked into as volumes.
	harness.Layered{Base: &toolbox, Texts: map[string]string{"name": "test"}, Config: v1.Config{Cmd: []string{"sh"}}}.
		Push(t, registry, "k8s-staging-cri-tools/test-image-tag", "test")
	plain(environment, "all", "").Push(t, registry, "k8s-staging-cri-tools/test-image-tag", "all")
	for name, user := range map[string]string{
		"latest": "", "1": "", "2": "", "3": "",
		"user-uid": "1002", "user-uid-group": "1003:1004", "user-username": "www-data", "user-username-group": "www-data:1004",
	} {
		staging("test-image-"+name, plain(environment, name, user))
	}
	// The same image by several names.
	for _, tag := range []string{"1", "2", "3"} {
		plain(environment, "tags", "").Push(t, registry, "k8s-staging-cri-tools/test-image-tags", tag)
	}
	plain(environment, "pause", "").Push(t, registry, "pause", "3.9")
	return critestImages{toolbox, web}
}

// plain is an image that nothing is looked at in, unlike every other by its name.
func plain(environment harness.Environment, name, user string) harness.Layered {
	return harness.Layered{
		Files:  map[string]string{"main.wasm": environment.Guest("first-line")},
		Texts:  map[string]string{"name": name},
		Config: v1.Config{Entrypoint: []string{"/main.wasm"}, User: user},
	}
}
