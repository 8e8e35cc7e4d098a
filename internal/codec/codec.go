// Package codec seals what Temporal stores about a signup: payloads, failure messages and stack traces. Only
// holders of the keys can read a history.
package codec

import (
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	"narthex/internal/secrets"
)

const (
	encoding = "binary/encrypted"
	keyID    = "encryption-key-id" // metadata for readers of a history; the sealed data also names its key
)

var place = secrets.Place{Table: "temporal", Column: "payload"}

// Codec seals and opens payloads. Each sealed payload names its key, so histories stay readable as long
// as the keyset holds that key.
type Codec struct{ keys *secrets.Keys }

// New returns the codec of these keys.
func New(keys *secrets.Keys) Codec { return Codec{keys} }

var _ converter.PayloadCodec = Codec{}

// Seal makes a client, and the workers made from it, seal everything that they send to Temporal.
func Seal(options *client.Options, keys *secrets.Keys) {
	options.DataConverter, options.FailureConverter = Converter(keys), FailureConverter(keys)
}

// Converter turns values into sealed payloads and back.
func Converter(keys *secrets.Keys) converter.DataConverter {
	return converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), New(keys))
}

// FailureConverter turns errors into failures with sealed messages and back.
func FailureConverter(keys *secrets.Keys) converter.FailureConverter {
	return failureConverter{temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{
		DataConverter: Converter(keys), EncodeCommonAttributes: true,
	})}
}

// failureConverter opens a copy of a failure. The default converter opens the failure in place, and a worker does
// that with a local activity's failure before it sends it to Temporal.
type failureConverter struct{ converter.FailureConverter }

func (c failureConverter) FailureToError(failure *failurepb.Failure) error {
	return c.FailureConverter.FailureToError(proto.CloneOf(failure))
}

// Encode seals payloads under the primary key.
func (c Codec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	sealed := make([]*commonpb.Payload, len(payloads))
	for i, payload := range payloads {
		plain, err := proto.Marshal(payload)
		if err != nil {
			return nil, fmt.Errorf("write payload: %w", err)
		}
		data, err := c.keys.Seal(plain, place)
		if err != nil {
			return nil, err
		}
		sealed[i] = &commonpb.Payload{Data: data, Metadata: map[string][]byte{
			converter.MetadataEncoding: []byte(encoding), keyID: []byte(c.keys.SealKeyID()),
		}}
	}
	return sealed, nil
}

// Decode opens what Encode sealed, and leaves other payloads alone. Errors: secrets.ErrSealed.
func (c Codec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	opened := make([]*commonpb.Payload, len(payloads))
	for i, payload := range payloads {
		if string(payload.GetMetadata()[converter.MetadataEncoding]) != encoding {
			opened[i] = payload
			continue
		}
		plain, err := c.keys.Open(payload.Data, place)
		if err != nil {
			return nil, err
		}
		opened[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(plain, opened[i]); err != nil {
			return nil, fmt.Errorf("read payload: %w", secrets.ErrSealed) // not err: it may quote the plain text
		}
	}
	return opened, nil
}
