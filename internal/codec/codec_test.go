package codec_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"narthex/internal/codec"
	"narthex/internal/dev/testenv"
	"narthex/internal/secrets"
)

var plain = &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`"pat@example.org"`)}

func TestEncodeThenDecode(t *testing.T) {
	c := codec.New(testenv.Keys(t))
	sealed, err := c.Encode([]*commonpb.Payload{plain, plain})
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range sealed {
		raw, err := proto.Marshal(payload)
		if err != nil || bytes.Contains(raw, []byte("pat@")) || bytes.Contains(raw, []byte("json/plain")) {
			t.Errorf("the sealed payload %q can be read (%v)", raw, err)
		}
	}
	// The last one was written by a client without a codec.
	opened, err := c.Decode(append(sealed, plain))
	if err != nil || len(opened) != 3 {
		t.Fatalf("decode: %d payloads, %v; want 3", len(opened), err)
	}
	for i, payload := range opened {
		if !proto.Equal(payload, plain) {
			t.Errorf("payload %d is %v, want %v", i, payload, plain)
		}
	}
}

func TestDecodeUnderAnotherKey(t *testing.T) {
	sealed, err := codec.New(testenv.Keys(t)).Encode([]*commonpb.Payload{plain})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := codec.New(testenv.Keys(t)).Decode(sealed); !errors.Is(err, secrets.ErrSealed) {
		t.Errorf("under another key: %v, want ErrSealed", err)
	}
}

// A history outlives the rotation of the key that it was sealed under, until that key is retired.
func TestRotationKeepsHistoriesReadable(t *testing.T) {
	seal, index := testenv.Keysets(t)
	keys := func(seal string, err error) *secrets.Keys {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return testenv.ParseKeys(t, seal, index)
	}
	sealed, err := codec.New(keys(seal, nil)).Encode([]*commonpb.Payload{plain})
	if err != nil {
		t.Fatal(err)
	}
	added, err := secrets.AddSealKey(seal)
	if err != nil {
		t.Fatal(err)
	}
	promoted, err := secrets.PromoteKey(added)
	rotated := codec.New(keys(promoted, err))
	if opened, err := rotated.Decode(sealed); err != nil || !proto.Equal(opened[0], plain) {
		t.Errorf("after a rotation: %v, %v; want %v", opened, err, plain)
	}
	fresh, err := rotated.Encode([]*commonpb.Payload{plain})
	if err != nil || bytes.Equal(fresh[0].Metadata["encryption-key-id"], sealed[0].Metadata["encryption-key-id"]) {
		t.Errorf("the new payload names key %s (%v), want the new one", fresh[0].Metadata["encryption-key-id"], err)
	}
	retired, err := secrets.RetireKeys(promoted)
	if _, err := codec.New(keys(retired, err)).Decode(sealed); !errors.Is(err, secrets.ErrSealed) {
		t.Errorf("after its key was retired: %v, want ErrSealed", err)
	}
}

// A failure is passed on to Temporal after it was opened: it must still be sealed.
func TestOpeningAFailureLeavesItSealed(t *testing.T) {
	converter := codec.FailureConverter(testenv.Keys(t))
	sealed := converter.ErrorToFailure(errors.New("the cause"))
	before := proto.CloneOf(sealed)
	if err := converter.FailureToError(sealed); err == nil || err.Error() != "the cause" {
		t.Errorf("the failure opens as %v, want the cause", err)
	}
	if !proto.Equal(sealed, before) || strings.Contains(sealed.String(), "the cause") {
		t.Errorf("after it was opened, the failure is %v, want %v", sealed, before)
	}
}
