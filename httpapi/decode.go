package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
)

// maxBody is how many bytes of a request's body are read at most.
const maxBody = 64 << 10

// maxFieldErrors is how many of a request's invalid fields are reported at most.
const maxFieldErrors = 20

// Decode reads the request's body, one JSON object, into the struct that into points to. It is stricter than
// encoding/json: names must match exactly, unknown and duplicate names are refused, every field that is not
// a pointer must be present and not null, nothing may follow the object, and the text must be UTF-8 without
// lone surrogates. Errors are problems.
func Decode(c *gin.Context, into any) error {
	body, err := Body(c, "application/json", maxBody)
	if err != nil {
		return err
	}
	if !utf8.Valid(body) {
		return errMalformed("The body is not UTF-8.")
	}
	wrong, err := checkMembers(body, bodyFields(into))
	if err != nil {
		return err
	}
	if err := wrong.Err(); err != nil {
		return err
	}
	err = json.Unmarshal(body, into)
	if wrongType, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return Fields{{Field: wrongType.Field, Detail: "must be a " + jsonType(wrongType.Type)}}.Err()
	}
	if err != nil {
		return errMalformed("The body is not a JSON object.")
	}
	return nil
}

// Body reads the request's body, which must have the given media type and at most limit bytes. Errors are
// problems.
func Body(c *gin.Context, mediaType string, limit int64) ([]byte, error) {
	given, _, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil || given != mediaType {
		return nil, errMediaType(mediaType)
	}
	return readBody(c, limit)
}

func readBody(c *gin.Context, limit int64) ([]byte, error) {
	if encoding := c.GetHeader("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, errEncoding
	}
	if c.Request.ContentLength > limit {
		c.Header("Connection", "close") // the rest of the body is not read
		return nil, errTooLarge(limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, limit))
	var overflow *http.MaxBytesError
	switch {
	case errors.As(err, &overflow):
		return nil, errTooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errSlowBody
	case err != nil:
		return nil, errMalformed("The body is incomplete.")
	}
	restart(c)
	return body, nil
}

// bodyField is a field of a request struct.
type bodyField struct {
	name     string
	required bool
}

// bodyFields lists a struct's fields. A pointer may be missing or null; everything else is required.
func bodyFields(of any) (fields []bodyField) {
	for field := range reflect.TypeOf(of).Elem().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		fields = append(fields, bodyField{name, field.Type.Kind() != reflect.Pointer})
	}
	return fields
}

// checkMembers walks the object's members and reports names that are unknown or duplicate, and required ones that are
// missing or null.
func checkMembers(body []byte, known []bodyField) (wrong Fields, err error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if opening, err := decoder.Token(); err != nil || opening != json.Delim('{') {
		return nil, errMalformed("The body is not a JSON object.")
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		name, isName := token.(string)
		var value json.RawMessage
		if err == nil && isName {
			err = decoder.Decode(&value)
		}
		i := slices.IndexFunc(known, func(f bodyField) bool { return f.name == name })
		switch {
		case err != nil || !isName:
			return nil, errMalformed("The body is not a JSON object.")
		case len(wrong) == maxFieldErrors:
			return wrong, nil
		case i < 0:
			wrong.Check(printable(name), "is not a field of this request")
		case seen[name]:
			wrong.Check(name, "appears more than once")
		case known[i].required && string(value) == "null":
			wrong.Check(name, "must not be null")
		}
		seen[name] = true
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errMalformed("The body is not a JSON object.")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errMalformed("Something follows the JSON object.")
	}
	for _, field := range known {
		if field.required && !seen[field.name] {
			wrong.Check(field.name, "is missing")
		}
	}
	return wrong[:min(len(wrong), maxFieldErrors)], nil
}

func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return jsonType(t.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	default:
		return "value of another type"
	}
}

// printable shortens a name that the client chose before it is sent back.
func printable(name string) string {
	if runes := []rune(name); len(runes) > 50 {
		name = string(runes[:50]) + "…"
	}
	return strings.ToValidUTF8(name, "")
}
