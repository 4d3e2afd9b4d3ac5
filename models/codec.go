package models

import (
	"errors"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Marshal gives the JSON that is kept in etcd.
func Marshal(m proto.Message) ([]byte, error) { return protojson.Marshal(m) }

// Unmarshal reads the JSON that is kept in etcd. An unknown or mistyped field is a
// *FieldError that names it.
func Unmarshal(data []byte, m proto.Message) error {
	err := protojson.Unmarshal(data, m)
	if err == nil {
		return nil
	}
	// protojson begins its errors with "proto:" and a space that varies by design.
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	text = strings.TrimSpace(strings.TrimPrefix(text, "proto:"))
	if wrong := misfit(data, text, m.ProtoReflect().Descriptor()); wrong != nil {
		return wrong
	}
	return errors.New("JSON: " + text)
}

// ParseAgent reads what another node offers. The agent there may be newer and say more:
// what is not known is skipped.
func ParseAgent(data []byte) (*Agent, error) {
	a := &Agent{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, a); err != nil {
		return nil, err
	}
	return a, nil
}
