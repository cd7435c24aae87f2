package descriptors

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

// changed returns the CRI's own descriptors, serialized, after a change.
func changed(t *testing.T, change func(file *descriptorpb.FileDescriptorProto)) []byte {
	t.Helper()
	file := protodesc.ToFileDescriptorProto(Published())
	change(file)
	serialized, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}})
	if err != nil {
		t.Fatal(err)
	}
	return serialized
}

func message(file *descriptorpb.FileDescriptorProto, name string) *descriptorpb.DescriptorProto {
	for _, message := range file.MessageType {
		if message.GetName() == name {
			return message
		}
	}
	panic("no message " + name)
}

func TestTheSameDescriptorsShowNoDifference(t *testing.T) {
	ours, err := Parse(changed(t, func(*descriptorpb.FileDescriptorProto) {}))
	if err != nil {
		t.Fatal(err)
	}
	differences, counts := Compare(Published(), ours)
	if len(differences) != 0 {
		t.Errorf("differences: %v", differences)
	}
	if counts.Services != 2 || counts.Methods != 41 {
		t.Errorf("%d services and %d methods were compared, not 2 and 41", counts.Services, counts.Methods)
	}
}

func TestTheOrderOfDeclarationsIsNoDifference(t *testing.T) {
	ours, err := Parse(changed(t, func(file *descriptorpb.FileDescriptorProto) {
		fields := message(file, "VersionResponse").Field
		fields[0], fields[1] = fields[1], fields[0]
	}))
	if err != nil {
		t.Fatal(err)
	}
	if differences, _ := Compare(Published(), ours); len(differences) != 0 {
		t.Errorf("differences: %v", differences)
	}
}

func TestEachKindOfChangeIsNamed(t *testing.T) {
	cases := []struct {
		what   string
		change func(file *descriptorpb.FileDescriptorProto)
		want   string
	}{
		{"a field's number", func(file *descriptorpb.FileDescriptorProto) {
			message(file, "Mount").Field[2].Number = proto.Int32(33)
		}, "runtime.v1.Mount.readonly: number is 3, ours 33"},
		{"a field's name", func(file *descriptorpb.FileDescriptorProto) {
			message(file, "Mount").Field[2].Name = proto.String("read_only")
		}, "runtime.v1.Mount.readonly: field missing in ours"},
		{"a field's JSON name", func(file *descriptorpb.FileDescriptorProto) {
			message(file, "ContainerConfig").Field[16].JsonName = proto.String("cdiDevices")
		}, "runtime.v1.ContainerConfig.CDI_devices: JSON name is CDIDevices, ours cdiDevices"},
		{"a field's type", func(file *descriptorpb.FileDescriptorProto) {
			message(file, "KeyValue").Field[1].Type = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
		}, "runtime.v1.KeyValue.value: type is bytes, ours string"},
		{"a field's message", func(file *descriptorpb.FileDescriptorProto) {
			message(file, "UserNamespace").Field[1].TypeName = proto.String(".runtime.v1.KeyValue")
		}, "runtime.v1.UserNamespace.uids: message type is runtime.v1.IDMapping, ours runtime.v1.KeyValue"},
		{"a field's label", func(file *descriptorpb.FileDescriptorProto) {
			message(file, "DNSConfig").Field[0].Label = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
		}, "runtime.v1.DNSConfig.servers: label is repeated, ours optional"},
		{"a secret's redaction", func(file *descriptorpb.FileDescriptorProto) {
			message(file, "AuthConfig").Field[1].Options = nil
		}, "runtime.v1.AuthConfig.password: debug_redact is true, ours false"},
		{"a further field", func(file *descriptorpb.FileDescriptorProto) {
			added := proto.Clone(message(file, "PodIP").Field[0]).(*descriptorpb.FieldDescriptorProto)
			added.Name, added.JsonName, added.Number = proto.String("mask"), proto.String("mask"), proto.Int32(2)
			message(file, "PodIP").Field = append(message(file, "PodIP").Field, added)
		}, "runtime.v1.PodIP.mask: field only in ours"},
		{"an enum's value", func(file *descriptorpb.FileDescriptorProto) {
			file.EnumType[0].Value[2].Number = proto.Int32(7)
		}, "runtime.v1.Protocol.SCTP: number is 2, ours 7"},
		{"a nested enum's value", func(file *descriptorpb.FileDescriptorProto) {
			message(file, "SecurityProfile").EnumType[0].Value[1].Name = proto.String("None")
		}, "runtime.v1.SecurityProfile.ProfileType.None: value only in ours"},
		{"a method's streaming", func(file *descriptorpb.FileDescriptorProto) {
			file.Service[0].Method[6].ServerStreaming = proto.Bool(false)
		}, "runtime.v1.RuntimeService.StreamPodSandboxes: server streaming is true, ours false"},
		{"a method's response", func(file *descriptorpb.FileDescriptorProto) {
			file.Service[1].Method[0].OutputType = proto.String(".runtime.v1.StreamImagesResponse")
		}, "runtime.v1.ImageService.ListImages: response is runtime.v1.ListImagesResponse, ours runtime.v1.StreamImagesResponse"},
		{"a method less", func(file *descriptorpb.FileDescriptorProto) {
			file.Service[1].Method = file.Service[1].Method[1:]
		}, "runtime.v1.ImageService.ListImages: method missing in ours"},
		{"a service less", func(file *descriptorpb.FileDescriptorProto) {
			file.Service = file.Service[:1]
		}, "runtime.v1.ImageService: service missing in ours"},
	}
	for _, c := range cases {
		t.Run(c.what, func(t *testing.T) {
			ours, err := Parse(changed(t, c.change))
			if err != nil {
				t.Fatal(err)
			}
			differences, _ := Compare(Published(), ours)
			if all := strings.Join(differences, "\n"); !strings.Contains(all, c.want) {
				t.Errorf("%q is not among:\n%s", c.want, all)
			}
		})
	}
}

func TestASetWithoutTheCRIIsRefused(t *testing.T) {
	if _, err := Parse(nil); err == nil || !strings.Contains(err.Error(), "0 files of package runtime.v1") {
		t.Errorf("an empty set: %v", err)
	}
	if _, err := Parse([]byte("no protobuf")); err == nil || !strings.Contains(err.Error(), "not a FileDescriptorSet") {
		t.Errorf("bytes of something else: %v", err)
	}
}
