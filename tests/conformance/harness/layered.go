package harness

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Layered is an image with a file system of several files, in one layer.
type Layered struct {
	// Base is an image whose layers and environment come before; none: this is all of it.
	Base *Pushed
	// Files are files of the machine by their paths in the image, without a leading slash; all of them may be executed.
	Files map[string]string
	// Texts are files by their content.
	Texts map[string]string
	// SetUID are programs by their content, with the set-user-ID bit.
	SetUID map[string]string
	// Links are symbolic links: their targets by their paths.
	Links map[string]string
	// Directories are open to everybody, as /tmp is.
	Directories []string
	// Native says that the programs are Linux' own, for this machine.
	Native bool
	Config v1.Config
}

// Push pushes the image.
func (l Layered) Push(t *testing.T, registry Registry, repository, tag string) Pushed {
	t.Helper()
	archive := l.archive(t)
	layer := must(tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive)), nil
	}, tarball.WithMediaType(types.OCILayer)))(t)
	image := must(mutate.AppendLayers(l.base(t), layer))(t)
	file := must(image.ConfigFile())(t).DeepCopy()
	environment := file.Config.Env
	file.Config = l.Config
	file.Config.Env = append(environment, l.Config.Env...)
	image = must(mutate.ConfigFile(image, file))(t)
	reference := registry.tag(t, repository, tag)
	if err := remote.Write(reference, image); err != nil {
		t.Fatalf("pushing %s: %v", reference, err)
	}
	return Pushed{Reference: reference.String(), Digest: must(image.Digest())(t).String()}
}

func (l Layered) base(t *testing.T) v1.Image {
	t.Helper()
	if l.Base != nil {
		return must(remote.Image(must(name.NewTag(l.Base.Reference, name.Insecure))(t)))(t)
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	platform := v1.ConfigFile{Architecture: "wasm", OS: "wasip1", RootFS: v1.RootFS{Type: "layers"}}
	if l.Native {
		platform.Architecture, platform.OS = runtime.GOARCH, "linux"
	}
	return must(mutate.ConfigFile(image, &platform))(t)
}

// archive is the layer: directories before what lies in them, everything by name, so that the same content is the same
// image.
func (l Layered) archive(t *testing.T) []byte {
	t.Helper()
	entries := map[string]*tar.Header{}
	contents := map[string][]byte{}
	add := func(name string, header tar.Header, content []byte) {
		for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
			if entries[parent] == nil {
				entries[parent] = &tar.Header{Name: parent + "/", Typeflag: tar.TypeDir, Mode: 0o755}
			}
		}
		header.Name, header.Size = name, int64(len(content))
		entries[name], contents[name] = &header, content
	}
	for name, file := range l.Files {
		add(name, tar.Header{Typeflag: tar.TypeReg, Mode: 0o755}, read(t, file))
	}
	for name, text := range l.Texts {
		add(name, tar.Header{Typeflag: tar.TypeReg, Mode: 0o644}, []byte(text))
	}
	for name, text := range l.SetUID {
		add(name, tar.Header{Typeflag: tar.TypeReg, Mode: 0o4755}, []byte(text))
	}
	for name, target := range l.Links {
		add(name, tar.Header{Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, nil)
	}
	for _, name := range l.Directories {
		add(name, tar.Header{Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
		entries[name].Name = name + "/"
	}
	var names []string
	for name := range entries {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare)

	var buffer bytes.Buffer
	compressed := gzip.NewWriter(&buffer)
	archive := tar.NewWriter(compressed)
	for _, name := range names {
		if err := archive.WriteHeader(entries[name]); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(contents[name]); err != nil {
			t.Fatal(err)
		}
	}
	for _, closer := range []io.Closer{archive, compressed} {
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return buffer.Bytes()
}
