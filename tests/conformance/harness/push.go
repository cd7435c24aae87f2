package harness

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The media types of the CNCF's wasm OCI artifact layout.
const (
	wasmConfig types.MediaType = "application/vnd.wasm.config.v0+json"
	wasmLayer  types.MediaType = "application/wasm"
)

// Pushed is an image in the registry.
type Pushed struct {
	// Reference is its name with a tag.
	Reference string
	// Digest is its manifest's: what the runtime must give as the image's id.
	Digest string
}

// PushArtifact pushes a wasm file as an artifact: one layer that is the file itself.
func (r Registry) PushArtifact(t *testing.T, repository, tag, file string) Pushed {
	t.Helper()
	wasm := read(t, file)
	layer := static.NewLayer(wasm, wasmLayer)
	layerDigest := must(layer.Digest())(t)
	// The configuration is no image configuration, so it is pushed as a blob of its own and the manifest is made here.
	config := static.NewLayer(marshal(t, map[string]any{
		"created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1", "layerDigests": []string{layerDigest.String()},
	}), wasmConfig)
	reference := r.tag(t, repository, tag)
	for _, blob := range []v1.Layer{config, layer} {
		if err := remote.WriteLayer(reference.Repository, blob); err != nil {
			t.Fatalf("pushing a blob of %s: %v", reference, err)
		}
	}
	manifest := rawManifest(marshal(t, v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        descriptor(t, config),
		Layers:        []v1.Descriptor{descriptor(t, layer)},
	}))
	if err := remote.Put(reference, manifest); err != nil {
		t.Fatalf("pushing %s: %v", reference, err)
	}
	digest, _, err := v1.SHA256(bytes.NewReader(manifest))
	if err != nil {
		t.Fatal(err)
	}
	return Pushed{Reference: reference.String(), Digest: digest.String()}
}

// PushImage pushes a wasm file as an ordinary image: a compressed layer with /main.wasm, which is the entrypoint.
func (r Registry) PushImage(t *testing.T, repository, tag, file string) Pushed {
	t.Helper()
	return Layered{
		Files:  map[string]string{"main.wasm": file},
		Config: v1.Config{Entrypoint: []string{"/main.wasm"}, Env: []string{"GREETING=Greetings"}},
	}.Push(t, r, repository, tag)
}

// ByDigest is the image's reference by digest.
func (p Pushed) ByDigest(t *testing.T) string {
	t.Helper()
	tag := must(name.NewTag(p.Reference))(t)
	return tag.Repository.Digest(p.Digest).String()
}

func (r Registry) tag(t *testing.T, repository, tag string) name.Tag {
	t.Helper()
	return must(name.NewTag(r.Host+"/"+repository+":"+tag, name.Insecure))(t)
}

// rawManifest is pushed byte for byte.
type rawManifest []byte

func (m rawManifest) RawManifest() ([]byte, error)        { return m, nil }
func (m rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func descriptor(t *testing.T, blob v1.Layer) v1.Descriptor {
	t.Helper()
	return v1.Descriptor{
		MediaType: must(blob.MediaType())(t),
		Size:      must(blob.Size())(t),
		Digest:    must(blob.Digest())(t),
	}
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	return must(json.Marshal(value))(t)
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	return must(os.ReadFile(file))(t)
}

// must takes the two results of a call that is not expected to fail, and gives the first once it knows the test.
func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
