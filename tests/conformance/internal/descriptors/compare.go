// Package descriptors compares two descriptions of the CRI: the one that cri-wasm was built from and the one that
// Kubernetes publishes. What a client can see on the wire or in JSON is compared; the order of declarations and comments
// are not.
package descriptors

import (
	"fmt"
	"sort"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Package is the protobuf package of CRI v1.
const Package protoreflect.FullName = "runtime.v1"

// Published returns the description that the k8s.io/cri-api of go.mod holds.
func Published() protoreflect.FileDescriptor {
	return new(cri.VersionRequest).ProtoReflect().Descriptor().ParentFile()
}

// Counts says how much was compared, so that an empty comparison does not pass for a good one.
type Counts struct {
	Services, Methods, Messages, Fields, Enums, Values int
}

// Parse reads a serialized FileDescriptorSet and returns its file of the CRI's package.
func Parse(serialized []byte) (protoreflect.FileDescriptor, error) {
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(serialized, set); err != nil {
		return nil, fmt.Errorf("not a FileDescriptorSet: %w", err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, fmt.Errorf("descriptors that do not fit together: %w", err)
	}
	return find(files)
}

func find(files *protoregistry.Files) (protoreflect.FileDescriptor, error) {
	var found []protoreflect.FileDescriptor
	files.RangeFilesByPackage(Package, func(file protoreflect.FileDescriptor) bool {
		found = append(found, file)
		return true
	})
	if len(found) != 1 {
		return nil, fmt.Errorf("%d files of package %s in the set, not 1", len(found), Package)
	}
	return found[0], nil
}

// Compare lists, a line each, what of theirs is missing in ours or different there, and what only ours has.
func Compare(theirs, ours protoreflect.FileDescriptor) ([]string, Counts) {
	c := &comparison{}
	c.same(string(theirs.Package()), "syntax", theirs.Syntax(), ours.Syntax())
	c.services(theirs.Services(), ours.Services())
	c.messages(string(theirs.Package()), theirs.Messages(), ours.Messages())
	c.enums(string(theirs.Package()), theirs.Enums(), ours.Enums())
	c.same(string(theirs.Package()), "number of extensions", theirs.Extensions().Len(), ours.Extensions().Len())
	sort.Strings(c.differences)
	return c.differences, c.counts
}

type comparison struct {
	differences []string
	counts      Counts
}

func (c *comparison) report(where, format string, arguments ...any) {
	c.differences = append(c.differences, where+": "+fmt.Sprintf(format, arguments...))
}

func (c *comparison) same(where, what string, theirs, ours any) {
	if theirs != ours {
		c.report(where, "%s is %v, ours %v", what, theirs, ours)
	}
}

// list is what all of protoreflect's lists of named descriptors have in common.
type list[D protoreflect.Descriptor] interface {
	Len() int
	Get(int) D
	ByName(protoreflect.Name) D
}

// pair calls both for each name that both lists have, and reports each that only one has.
func pair[D protoreflect.Descriptor](c *comparison, where, kind string, theirs, ours list[D], both func(where string, theirs, ours D)) {
	for i := range theirs.Len() {
		their := theirs.Get(i)
		name := where + "." + string(their.Name())
		our := ours.ByName(their.Name())
		if any(our) == nil {
			c.report(name, "%s missing in ours", kind)
			continue
		}
		both(name, their, our)
	}
	for i := range ours.Len() {
		our := ours.Get(i)
		if any(theirs.ByName(our.Name())) == nil {
			c.report(where+"."+string(our.Name()), "%s only in ours", kind)
		}
	}
}

func (c *comparison) services(theirs, ours protoreflect.ServiceDescriptors) {
	pair(c, string(Package), "service", theirs, ours, func(where string, theirs, ours protoreflect.ServiceDescriptor) {
		c.counts.Services++
		pair(c, where, "method", theirs.Methods(), ours.Methods(), func(where string, theirs, ours protoreflect.MethodDescriptor) {
			c.counts.Methods++
			c.same(where, "request", theirs.Input().FullName(), ours.Input().FullName())
			c.same(where, "response", theirs.Output().FullName(), ours.Output().FullName())
			c.same(where, "client streaming", theirs.IsStreamingClient(), ours.IsStreamingClient())
			c.same(where, "server streaming", theirs.IsStreamingServer(), ours.IsStreamingServer())
		})
	})
}

func (c *comparison) messages(where string, theirs, ours protoreflect.MessageDescriptors) {
	pair(c, where, "message", theirs, ours, func(where string, theirs, ours protoreflect.MessageDescriptor) {
		c.counts.Messages++
		c.same(where, "map entry", theirs.IsMapEntry(), ours.IsMapEntry())
		pair(c, where, "field", theirs.Fields(), ours.Fields(), c.field)
		pair(c, where, "oneof", theirs.Oneofs(), ours.Oneofs(), func(where string, theirs, ours protoreflect.OneofDescriptor) {
			c.same(where, "synthetic", theirs.IsSynthetic(), ours.IsSynthetic())
		})
		c.messages(where, theirs.Messages(), ours.Messages())
		c.enums(where, theirs.Enums(), ours.Enums())
		c.reserved(where, theirs, ours)
	})
}

func (c *comparison) field(where string, theirs, ours protoreflect.FieldDescriptor) {
	c.counts.Fields++
	c.same(where, "number", theirs.Number(), ours.Number())
	c.same(where, "type", theirs.Kind(), ours.Kind())
	c.same(where, "label", theirs.Cardinality(), ours.Cardinality())
	c.same(where, "JSON name", theirs.JSONName(), ours.JSONName())
	c.same(where, "presence", theirs.HasPresence(), ours.HasPresence())
	c.same(where, "packed", theirs.IsPacked(), ours.IsPacked())
	c.same(where, "message type", nameOf(theirs.Message()), nameOf(ours.Message()))
	c.same(where, "enum type", nameOf(theirs.Enum()), nameOf(ours.Enum()))
	c.same(where, "oneof", nameOf(theirs.ContainingOneof()), nameOf(ours.ContainingOneof()))
	their, our := theirs.Options().(*descriptorpb.FieldOptions), ours.Options().(*descriptorpb.FieldOptions)
	c.same(where, "deprecated", their.GetDeprecated(), our.GetDeprecated())
	// A redacted field holds a secret: a log that prints messages must know.
	c.same(where, "debug_redact", their.GetDebugRedact(), our.GetDebugRedact())
}

func (c *comparison) enums(where string, theirs, ours protoreflect.EnumDescriptors) {
	pair(c, where, "enum", theirs, ours, func(where string, theirs, ours protoreflect.EnumDescriptor) {
		c.counts.Enums++
		pair(c, where, "value", theirs.Values(), ours.Values(), func(where string, theirs, ours protoreflect.EnumValueDescriptor) {
			c.counts.Values++
			c.same(where, "number", theirs.Number(), ours.Number())
		})
	})
}

// reserved compares the numbers and names that a message keeps free.
func (c *comparison) reserved(where string, theirs, ours protoreflect.MessageDescriptor) {
	c.same(where, "reserved names", namesOf(theirs.ReservedNames()), namesOf(ours.ReservedNames()))
	c.same(where, "reserved numbers", rangesOf(theirs.ReservedRanges()), rangesOf(ours.ReservedRanges()))
}

// nameOf is the full name of a descriptor that a field may not have, which is then an interface of nil.
func nameOf(descriptor protoreflect.Descriptor) string {
	switch d := descriptor.(type) {
	case protoreflect.MessageDescriptor:
		return string(d.FullName())
	case protoreflect.EnumDescriptor:
		return string(d.FullName())
	case protoreflect.OneofDescriptor:
		return string(d.FullName())
	default:
		return "none"
	}
}

func namesOf(names protoreflect.Names) string {
	var all []string
	for i := range names.Len() {
		all = append(all, string(names.Get(i)))
	}
	sort.Strings(all)
	return fmt.Sprint(all)
}

func rangesOf(ranges protoreflect.FieldRanges) string {
	var all []string
	for i := range ranges.Len() {
		all = append(all, fmt.Sprint(ranges.Get(i)))
	}
	sort.Strings(all)
	return fmt.Sprint(all)
}
