package models

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// position is where protojson says that something is wrong.
var position = regexp.MustCompile(`(?:syntax error )?\(line (\d+):(\d+)\): `)

// misfit turns protojson's error about well-formed JSON, which names a place in the text, into
// one that names the field. It is nil where that cannot be told: the JSON itself is broken.
func misfit(data []byte, text string, m protoreflect.MessageDescriptor) error {
	at := position.FindStringSubmatchIndex(text)
	if at == nil || !json.Valid(data) {
		return nil
	}
	line, _ := strconv.Atoi(text[at[2]:at[3]]) // both are digits
	column, _ := strconv.Atoi(text[at[4]:at[5]])
	path := pathAt(data, offsetOf(data, line, column))
	if len(path) == 0 {
		return nil
	}
	reason := text[at[1]:]
	if strings.HasPrefix(reason, "unknown field") {
		reason = "is not known; remove it or correct its name"
	} else if form := formOf(m, path); form != "" {
		reason += "; write " + form
	}
	return &FieldError{Field: strings.TrimPrefix(strings.Join(path, ""), "."), Reason: reason}
}

// offsetOf is the byte at a line and a column, both from 1 and the latter in characters.
func offsetOf(data []byte, line, column int) int {
	offset := 0
	for ; line > 1; line-- {
		offset += bytes.IndexByte(data[offset:], '\n') + 1
	}
	for ; column > 1; column-- {
		_, n := utf8.DecodeRune(data[offset:])
		offset += n
	}
	return offset
}

// pathAt is the way to the name or value at an offset of JSON that is well formed, a step a
// level: .client, .addresses, [0].
func pathAt(data []byte, offset int) []string {
	var path []string
	var entries []int // of each level: how many a list has had, or -1 for an object
	named := false    // the name has been read, its value comes
	decoder := json.NewDecoder(bytes.NewReader(data))
	for {
		token, err := decoder.Token()
		if err != nil {
			return nil
		}
		level := len(entries) - 1
		name := false
		switch {
		case level < 0:
		case token == json.Delim('}') || token == json.Delim(']'):
			path, entries = path[:level], entries[:level]
		case entries[level] >= 0:
			path = append(path[:level], fmt.Sprintf("[%d]", entries[level]))
			entries[level]++
		case !named:
			path = append(path[:level], fmt.Sprintf(".%s", token))
			name = true
		}
		if decoder.InputOffset() > int64(offset) {
			return path
		}
		switch named = name; token {
		case json.Delim('{'):
			entries = append(entries, -1)
		case json.Delim('['):
			entries = append(entries, 0)
		}
	}
}

// formOf says how the value of a field is written, where protojson does not say so itself.
func formOf(m protoreflect.MessageDescriptor, path []string) string {
	var field protoreflect.FieldDescriptor
	entry := false // of the list or map that the field is
	for _, step := range path {
		switch {
		case step[0] == '[':
			entry = true
			continue
		case field != nil && field.IsMap():
			field, entry = field.MapValue(), true
		default:
			field, entry = m.Fields().ByJSONName(step[1:]), false
		}
		if field == nil {
			return ""
		}
		if m = field.Message(); m != nil && m.ParentFile().Package() == "google.protobuf" {
			return "" // these have forms of their own
		}
	}
	switch {
	case field.IsList() && !entry:
		return "a list: […]"
	case m != nil:
		return "an object: {…}"
	case field.Kind() == protoreflect.StringKind:
		return "text, in quotes"
	}
	return ""
}
