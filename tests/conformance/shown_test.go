package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"conformance/harness"
)

// What crictl prints as JSON, as far as it is looked at.
type (
	status struct {
		Conditions []struct {
			Type   string
			Status bool
		}
	}
	image struct {
		ID                    string
		RepoTags, RepoDigests []string
		Size                  string
	}
	sandbox struct {
		ID                  string
		Metadata            struct{ Name, UID, Namespace string }
		State               string
		Labels, Annotations map[string]string
		Network             struct{ IP string }
	}
	container struct {
		ID, PodSandboxID, ImageRef, State, Reason, Message, LogPath string
		Metadata                                                    struct {
			Name    string
			Attempt int
		}
		Labels, Annotations map[string]string
		ExitCode            int
	}
)

func checkImage(t *testing.T, images []image, want harness.Pushed) {
	t.Helper()
	for _, got := range images {
		if !slices.Contains(got.RepoTags, want.Reference) {
			continue
		}
		// The kubelet takes the id for the image's identity, and only the manifest's digest is one.
		if got.ID != want.Digest {
			t.Errorf("the id of %s is %s, not %s", want.Reference, got.ID, want.Digest)
		}
		if !slices.Contains(got.RepoDigests, want.ByDigest(t)) {
			t.Errorf("%s is not among %v", want.ByDigest(t), got.RepoDigests)
		}
		if got.Size == "" || got.Size == "0" {
			t.Errorf("%s has no size", want.Reference)
		}
		return
	}
	t.Errorf("%s is not among %+v", want.Reference, images)
}

// wants is an error that names what a text lacks.
func wants(text string, parts ...string) error {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return fmt.Errorf("%q is not in:\n%s", part, text)
		}
	}
	return nil
}
